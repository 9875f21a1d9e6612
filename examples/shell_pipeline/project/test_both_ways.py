import unittest

from roman import read, written


class BothWays(unittest.TestCase):
    def test_every_number(self) -> None:
        for number in range(1, 4000):
            self.assertEqual(read(written(number)), number)


if __name__ == "__main__":
    unittest.main()
