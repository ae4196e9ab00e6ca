"""A long cable: what goes into one of two TAP devices comes out of the other one, later or never.

The devices may be moved to other network namespaces once this has said `ready`. Then it tells each
second, in one line, what it has carried and lost, and by how much a packet was later than it should
be at worst.
"""

import argparse
import collections
import fcntl
import os
import random
import select
import struct
import time

TUNSETIFF = 0x400454CA
TAP_WITHOUT_HEADER = 0x0002 | 0x1000
LONGEST_FRAME = 65536
IPV4, IPV6, UDP = 0x0800, 0x86DD, 17
REPORT_S = 1.0


def tap(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP_WITHOUT_HEADER))
    return device


def is_udp(frame):
    kind = int.from_bytes(frame[12:14], "big")
    return (kind == IPV4 and frame[23] == UDP) or (kind == IPV6 and frame[20] == UDP)


class Direction:
    def __init__(self, source, sink, delay, loss, seed):
        self.source, self.sink, self.delay, self.loss = source, sink, delay, loss
        self.random = random.Random(seed)
        self.under_way = collections.deque()
        self.carried = self.lost = 0
        self.latest = 0.0

    def take_in(self):
        while True:
            try:
                frame = os.read(self.source, LONGEST_FRAME)
            except BlockingIOError:
                return
            if is_udp(frame) and self.random.random() < self.loss:
                self.lost += 1
            else:
                self.under_way.append((time.monotonic() + self.delay, frame))

    def give_out(self, now):
        while self.under_way and self.under_way[0][0] <= now:
            due, frame = self.under_way.popleft()
            try:
                os.write(self.sink, frame)
            except OSError:
                continue  # the other end is not up yet, or not any more
            self.carried += 1
            self.latest = max(self.latest, time.monotonic() - due)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", action="append", required=True, help="twice: the two ends")
    parser.add_argument("--delay", type=float, required=True, help="seconds, each way")
    parser.add_argument("--loss", type=float, required=True, help="part of the UDP packets, 0 to 1")
    options = parser.parse_args()

    one, other = (tap(name) for name in options.device)
    directions = [
        Direction(one, other, options.delay, options.loss, 1),
        Direction(other, one, options.delay, options.loss, 2),
    ]
    print("ready", flush=True)
    # Ahead of every other program: being late would be jitter that nobody asked for.
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        pass

    next_report = time.monotonic() + REPORT_S
    while True:
        dues = [direction.under_way[0][0] for direction in directions if direction.under_way]
        wait = min([*dues, next_report]) - time.monotonic()
        select.select([one, other], [], [], max(wait, 0))
        for direction in directions:
            direction.take_in()
        now = time.monotonic()
        for direction in directions:
            direction.give_out(now)
        if now >= next_report:
            next_report = now + REPORT_S
            told = [f"{d.carried} carried, {d.lost} lost, {1000 * d.latest:.1f} ms late" for d in directions]
            print("; ".join(told), flush=True)


main()
