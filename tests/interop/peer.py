#!/usr/bin/python3
"""peer.py - the other end of a test, with exact habits.

    peer.py sum    LISTEN|CONNECT ADDR PORT FILE OUT   send FILE only after the peer's end of stream; keep what came
    peer.py push   LISTEN|CONNECT ADDR PORT FILE OUT   send FILE and half-close first, then read to the end
    peer.py rude   LISTEN ADDR PORT COUNT              answer nothing: read one byte, close with data unread (RST)

A listener prints "ready" and serves one connection (rude: COUNT of them). The exit status says whether the
exchange ended by an orderly end of stream.
"""
import socket
import sys
import threading
import time


def read_to_end(s, path):
    with open(path, "wb") as f:
        while True:
            b = s.recv(65536)
            if not b:
                return
            f.write(b)


def send_file(s, path):
    with open(path, "rb") as f:
        s.sendall(f.read())
    s.shutdown(socket.SHUT_WR)


def listener(addr, port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((addr, port))
    s.listen(64)
    print("ready", flush=True)
    return s


def main():
    mode, role, addr, port = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    if mode == "rude":
        s = listener(addr, port)
        for _ in range(int(sys.argv[5])):
            c, _ = s.accept()
            c.recv(1)
            time.sleep(0.2)
            c.close()
        return
    if role == "LISTEN":
        c, _ = listener(addr, port).accept()
    else:
        c = socket.create_connection((addr, port), timeout=60)
    c.settimeout(100)
    if mode == "sum":
        read_to_end(c, sys.argv[6])
        send_file(c, sys.argv[5])
    else:
        # Both ways at once, so that no buffer has to hold the whole.
        t = threading.Thread(target=send_file, args=(c, sys.argv[5]))
        t.start()
        read_to_end(c, sys.argv[6])
        t.join()
    c.close()


main()
