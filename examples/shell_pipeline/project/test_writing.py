import unittest

from roman import written


class Writing(unittest.TestCase):
    def test_years(self) -> None:
        self.assertEqual([written(year) for year in (79, 1666, 2026)], ["LXXIX", "MDCLXVI", "MMXXVI"])

    def test_what_has_no_numeral(self) -> None:
        for number in (-1, 0, 4000):
            with self.subTest(number), self.assertRaises(ValueError):
                written(number)


if __name__ == "__main__":
    unittest.main()
