"""Reads what `quorate bench` writes for other HdrHistogram tools, by nothing but the format's description: latency.hlog (V2, compressed:
base 64, zlib, ZigZag LEB128) and latency.hgrm must say what report.json says.

    python3 tests/hlog.py DIRECTORY
"""

import base64
import json
import math
import struct
import sys
import zlib

COMPRESSED, PLAIN = 0x1C849314, 0x1C849313
# Three significant digits, in two histograms whose steps need not begin at one place.
TOLERANCE = 0.002


def varint(data, at):
    """One ZigZag LEB128 number of at most nine bytes, the ninth of which has eight bits of value; and where it ends."""
    value = 0
    for place in range(9):
        byte = data[at]
        at += 1
        if place == 8:
            value |= byte << 56
            break
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            break
    return (value >> 1) ^ -(value & 1), at


def histogram(text):
    """The counts of one interval, by the highest value that each stands for."""
    packed = base64.b64decode(text, validate=True)
    cookie, length = struct.unpack(">II", packed[:8])
    assert cookie == COMPRESSED, hex(cookie)
    assert length == len(packed) - 8, (length, len(packed))
    data = zlib.decompress(packed[8:])
    cookie, length, offset, digits, lowest, _highest, ratio = struct.unpack(">IIIIQQd", data[:40])
    assert cookie == PLAIN, hex(cookie)
    assert (offset, ratio) == (0, 1.0), (offset, ratio)
    assert length == len(data) - 40, (length, len(data))
    half_magnitude = max(math.ceil(math.log2(2 * 10**digits)), 1) - 1
    half, unit = 1 << half_magnitude, int(math.log2(lowest))
    counts, index, at = {}, 0, 40
    while at < len(data):
        count, at = varint(data, at)
        if count < 0:
            index += -count
            continue
        if count:
            bucket, place = (index >> half_magnitude) - 1, (index & (half - 1)) + half
            if bucket < 0:
                bucket, place = 0, place - half
            counts[((place + 1) << (bucket + unit)) - 1] = count
        index += 1
    return counts


def quantile(counts, share):
    wanted, seen = max(math.ceil(share * sum(counts.values())), 1), 0
    for value in sorted(counts):
        seen += counts[value]
        if wanted <= seen:
            return value
    raise AssertionError(f"{seen} values, {wanted} wanted")


def same(what, found, said):
    assert abs(found - said) <= TOLERANCE * max(found, said), f"{what}: {found} is decoded, {said} was said"


def intervals(lines):
    """Start and counts of each interval; each line's own maximum must be the histogram's."""
    ended = 0.0
    for line in lines:
        if line.startswith("#") or line.startswith('"'):
            continue
        start, length, largest, text = line.split(",")
        assert ended <= float(start) + 1e-6, line[:40]
        ended = float(start) + float(length)
        counts = histogram(text)
        same("the maximum column in milliseconds", max(counts) / 1e6, float(largest))
        yield counts


def main(directory):
    report = json.load(open(f"{directory}/report.json"))
    total, number = {}, 0
    for counts in intervals(open(f"{directory}/latency.hlog").read().splitlines()):
        number += 1
        for value, count in counts.items():
            total[value] = total.get(value, 0) + count
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)):
        same(name, quantile(total, share) / 1e3, report["latency_us"][name])
    rows = [line.split() for line in open(f"{directory}/latency.hgrm") if line.strip() and line.strip()[0].isdigit()]
    for row in rows:
        same(f"percentile {row[1]}", quantile(total, float(row[1])) / 1e6, float(row[0]))
    assert int(rows[-1][2]) == sum(total.values()), (rows[-1], sum(total.values()))
    print(f"{number} intervals, {len(rows)} percentiles, {sum(total.values())} values")


if __name__ == "__main__":
    main(sys.argv[1])
