import unittest

from roman import read


class Reading(unittest.TestCase):
    def test_subtraction(self) -> None:
        self.assertEqual(read("MCMXCIV"), 1994)

    def test_what_is_no_numeral(self) -> None:
        for text in ("IIII", "IC", "VX", "2026", ""):
            with self.subTest(text), self.assertRaises(ValueError):
                read(text)


if __name__ == "__main__":
    unittest.main()
