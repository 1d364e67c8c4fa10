#!/usr/bin/python3
"""silence.py CAPTURE [SLACK_MS] - no silence longer than three RTOs.

Reads a capture of one end (pcap, micro- or nanoseconds, Ethernet, IPv4). While a flow has data or a SYN or FIN that
its peer has not acknowledged, something must happen within three retransmission time-outs: 200 ms (the least RTO of
Linux and of ours) or the flow's own RTO by RFC 6298 if its round trips are longer, 1 s before the first round trip.
SLACK_MS is how late the path emulator itself was. A flow that was reset, or that ends with the capture, is not waited
for. Prints the longest silence; exit status 1 if one was too long.
"""
import struct
import sys


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


def segment(b):
    """(flow key, direction, seq, end, ack, flags) or None."""
    if len(b) < 54 or b[12:14] != b"\x08\x00" or b[23] != 6:
        return None
    ihl = (b[14] & 15) * 4
    total = struct.unpack("!H", b[16:18])[0]
    t = 14 + ihl
    sport, dport, seq, ack, off, flags = struct.unpack("!HHIIBB", b[t : t + 14])
    size = total - ihl - (off >> 4) * 4
    size += (flags & 1) + ((flags >> 1) & 1)
    a, z = (b[26:30], sport), (b[30:34], dport)
    return (min(a, z), max(a, z)), a < z, seq, (seq + size) & 0xFFFFFFFF, ack, flags, size


def after(a, b):
    return ((a - b) & 0xFFFFFFFF) < 0x80000000 and a != b


class Flow:
    def __init__(self):
        self.sent = [None, None]  # highest end of sequence, by direction
        self.acked = [None, None]  # what the other side acknowledged of it
        self.timed = [None, None]  # (end, time) of one segment for the round trip
        self.srtt = self.var = None
        self.last = None
        self.over = False

    def owing(self):
        for d in (0, 1):
            if self.sent[d] is not None and (self.acked[d] is None or after(self.sent[d], self.acked[d])):
                return True
        return False

    def rto(self):
        if self.srtt is None:
            return 1.0
        return self.srtt + max(0.2, 4 * self.var)

    def sample(self, r):
        if self.srtt is None:
            self.srtt, self.var = r, r / 2
        else:
            self.var += (abs(self.srtt - r) - self.var) / 4
            self.srtt += (r - self.srtt) / 8


def main():
    slack = float(sys.argv[2]) / 1e3 if len(sys.argv) > 2 else 0.0
    flows = {}
    worst = (0.0, 0.0, None)
    bad = 0
    for now, b in frames(sys.argv[1]):
        s = segment(b)
        if not s:
            continue
        key, d, seq, end, ack, flags, size = s
        d = int(d)
        f = flows.setdefault(key, Flow())
        if flags & 2 and not flags & 16:
            if f.over or (f.sent[d] is not None and end != f.sent[d]):
                f = flows[key] = Flow()  # the tuple used again
        if f.last is not None and not f.over and f.owing():
            gap, limit = now - f.last, 3 * f.rto() + slack
            if gap > worst[0]:
                worst = (gap, limit, key)
            if gap > limit:
                bad += 1
                print("silence of %.3f s (limit %.3f s) at %.6f in flow port %d - %d"
                      % (gap, limit, now, key[0][1], key[1][1]))
        f.last = now
        if flags & 4:
            f.over = True
        if size and (f.sent[d] is None or after(end, f.sent[d])):
            f.sent[d] = end
            f.timed[d] = f.timed[d] or (end, now)
        elif size:
            f.timed[d] = None  # sent again: Karn
        o = 1 - d
        if flags & 16 and (f.acked[o] is None or after(ack, f.acked[o])):
            f.acked[o] = ack
            if f.timed[o] and not after(f.timed[o][0], ack):
                f.sample(now - f.timed[o][1])
                f.timed[o] = None
    print("%d flows, longest silence %.3f s (limit there %.3f s)" % (len(flows), worst[0], worst[1]))
    sys.exit(1 if bad or not flows else 0)


main()
