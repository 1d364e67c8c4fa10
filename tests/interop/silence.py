#!/usr/bin/python3
"""silence.py CAPTURE STACK [SLACK_MS] - no silence of the stack longer than three RTOs.

Reads a capture taken at the stack (pcap, micro- or nanoseconds, Ethernet, IPv4); STACK is its address. Two debts are
watched. While the stack has sent something that is not acknowledged, the flow may be silent for three of the stack's
retransmission time-outs: 200 ms or what RFC 6298 makes of longer round trips, 1 s before the first round trip; a
retransmission that is lost as well doubles the time-out (RFC 6298 5.5), so after k of them one doubled RTO is allowed. And
a segment with data or FIN from the peer must be answered by any segment within 600 ms, a SYN within 3 s.
The peer's own retransmissions are the peer's affair. A flow that was reset, or that ends with the capture, is not
waited for. SLACK_MS is added for a busy machine. Prints the longest silence; exit status 1 if one was too long.
"""
import socket
import struct
import sys

RTO_MIN = 0.2


def frames(path):
    with open(path, "rb") as f:
        data = f.read()
    magic = struct.unpack("<I", data[:4])[0]
    unit = {0xA1B23C4D: 1e-9, 0xA1B2C3D4: 1e-6}.get(magic)
    if unit is None:
        sys.exit("silence: %s is no capture" % path)
    at = 24
    while at + 16 <= len(data):
        s, frac, caplen, _ = struct.unpack("<IIII", data[at : at + 16])
        yield s + frac * unit, data[at + 16 : at + 16 + caplen]
        at += 16 + caplen


def segment(b, stack):
    """(ports: the stack's, the peer; sent by the stack?, seq, end, ack, flags, size) or None."""
    if len(b) < 54 or b[12:14] != b"\x08\x00" or b[23] != 6:
        return None
    ihl = (b[14] & 15) * 4
    total = struct.unpack("!H", b[16:18])[0]
    t = 14 + ihl
    sport, dport, seq, ack, off, flags = struct.unpack("!HHIIBB", b[t : t + 14])
    size = total - ihl - (off >> 4) * 4
    size += (flags & 1) + ((flags >> 1) & 1)
    ours = b[26:30] == stack
    key = (sport, b[30:34], dport) if ours else (dport, b[26:30], sport)
    return key, ours, seq, (seq + size) & 0xFFFFFFFF, ack, flags, size


def after(a, b):
    return a != b and ((a - b) & 0xFFFFFFFF) < 0x80000000


class Flow:
    def __init__(self):
        self.sent = self.acked = None  # highest end of sequence from the stack; what the peer acknowledged
        self.timed = None  # (end, time) of one segment for the round trip
        self.srtt = self.var = None
        self.tries = 0  # how often the first unacknowledged byte was sent again
        self.unanswered = False  # the peer sent something, the stack said nothing since
        self.last = None
        self.over = False

    def patience(self):
        """How long the stack may be silent now; None: it owes nothing."""
        if self.sent is not None and (self.acked is None or after(self.sent, self.acked)):
            rto = 1.0 if self.srtt is None else self.srtt + max(RTO_MIN, 4 * self.var)
            return max(3 * rto, 1.3 * rto * 2**self.tries)
        if not self.unanswered:
            return None
        # Before the SYN-ACK the initial RTO counts: the peer's Ethernet address may have to be asked for first.
        return 3 * (RTO_MIN if self.sent is not None else 1.0)

    def sample(self, r):
        if self.srtt is None:
            self.srtt, self.var = r, r / 2
        else:
            self.var += (abs(self.srtt - r) - self.var) / 4
            self.srtt += (r - self.srtt) / 8

    def from_stack(self, now, seq, end, size):
        self.unanswered = False
        if not size:
            return
        if self.sent is None or after(end, self.sent):
            self.sent = end
            self.timed = self.timed or (end, now)
        else:
            self.timed = None  # sent again: Karn
            self.tries += self.acked is None or seq == self.acked

    def from_peer(self, now, ack, flags, size):
        self.unanswered = self.unanswered or size > 0
        if flags & 16 and (self.acked is None or after(ack, self.acked)):
            self.acked = ack
            self.tries = 0
            if self.timed and not after(self.timed[0], ack):
                self.sample(now - self.timed[1])
                self.timed = None


def main():
    stack = socket.inet_aton(sys.argv[2])
    slack = float(sys.argv[3]) / 1e3 if len(sys.argv) > 3 else 0.0
    flows = {}
    worst = (0.0, 0.0)
    bad = 0
    for now, b in frames(sys.argv[1]):
        s = segment(b, stack)
        if not s:
            continue
        key, ours, seq, end, ack, flags, size = s
        f = flows.setdefault(key, Flow())
        if flags & 18 == 2 and f.last is not None and (f.over or f.acked is not None):
            f = flows[key] = Flow()  # the same ports used again
        patience = None if f.over else f.patience()
        if patience is not None:
            gap, limit = now - f.last, patience + slack
            worst = max(worst, (gap, limit))
            if gap > limit:
                bad += 1
                print("silence of %.3f s (limit %.3f s) at %.6f in flow %d - %d" % (gap, limit, now, key[0], key[2]))
        f.last = now
        f.over = f.over or flags & 4 != 0
        if ours:
            f.from_stack(now, seq, end, size)
        else:
            f.from_peer(now, ack, flags, size)
    print("%d flows, longest silence %.3f s (limit there %.3f s)" % (len(flows), *worst))
    sys.exit(1 if bad else 0)


main()
