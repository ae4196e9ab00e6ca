"""What viewers in Python measure: the number that a picture shows, and the tone of sound."""

import array
import math

# A picture's number has so many bits, as blocks of white and black, with their complements below.
BITS = 11
# Samples per second are brought down to about so many: speech has no more, and Python takes its time.
RATE = 8000
LONG, SHORT = RATE // 2, RATE // 8
# Below this share of the loudest tone there is, it is silent.
SILENCE = 0.005


def number_in(pixels, stride, block):
    """The number that a picture shows in its grey pixels; none if it cannot be read."""
    number = 0
    for bit in range(BITS):
        above, below = (
            pixels[(row * block + block // 2) * stride + bit * block + block // 2]
            for row in range(2)
        )
        if abs(above - below) < 100:
            return None
        number |= (above > below) << bit
    return number


def strength(samples, frequency):
    """How loud a tone is, by Goertzel's algorithm; 1 is the loudest there is."""
    coefficient = 2 * math.cos(2 * math.pi * frequency / RATE)
    before, last = 0.0, 0.0
    for sample in samples:
        before, last = last, sample + coefficient * last - before
    power = last * last + before * before - coefficient * last * before
    return math.sqrt(max(power, 0.0)) * 2 / len(samples) / 32768


class Sound:
    """The end of a track's sound: samples of 16 bits, of which the first channel counts."""

    def __init__(self):
        self.samples = array.array("h")
        self.rate, self.seconds = RATE, 0.0

    def add(self, samples, rate, channels):
        block = array.array("h", samples)[::channels]
        self.seconds += len(block) / rate
        step = rate // RATE
        # The mean of neighbours, so that what is higher than speech is not heard as something lower.
        means = (sum(block[i : i + step]) // step for i in range(0, len(block) - step + 1, step))
        # Not always the same: 44100 Hz come to 8820.
        self.rate = rate / step
        self.samples = (self.samples + array.array("h", means))[-LONG:]

    def tone(self):
        """The strongest frequency of the last half second in Hz; 0 of silence, and of less."""
        if len(self.samples) < LONG:
            return 0
        loudest = max(range(104, 2000, 8), key=lambda f: strength(self.samples[:SHORT], f))
        exact = max(range(loudest - 8, loudest + 9), key=lambda f: strength(self.samples, f))
        if strength(self.samples, exact) < SILENCE:
            return 0
        return exact * self.rate / RATE
