"""python3 -m unittest discover bench/gpu"""

import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import floor_counts
import search
import tables


def line(by: str, bench: str, median: float, **more) -> dict:
    about = {"by": by, "bench": bench, "shape": "large", "batch": 32, "status": "ok", "median_ms": median}
    figures = {"min_ms": median - 1, "p90_ms": median + 2, "tokens_per_s": 1234567, "examples_per_s": 890.5}
    return about | figures | more


LINES = [
    line("xprompt", "tune-text", 20.0, precision="bf16", rise_mib=6000),
    line("xprompt", "tune-text", 40.0, precision="tf32", rise_mib=12000),
    line("xprompt", "tune-labels", 18.0, precision="bf16", rise_mib=6000),
    line("torch", "tune", 50.0, mode="eager", dtype="bf16", rise_mib=9000, allocated_mib=7000, card="a card"),
    line("torch", "tune", 30.0, mode="reduce-overhead", dtype="bf16", rise_mib=8000, allocated_mib=7500),
    {"by": "torch", "bench": "tune", "shape": "large", "batch": 32, "mode": "max-autotune", "status": "over budget", "budget_s": 180.0},
    line("floor", "tune-text", 10.0, dtype="bf16", tflops=700.0),
]


class Tables(unittest.TestCase):
    def rows(self, lines) -> list[list[str]]:
        text = tables.tables(lines)
        return [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row[:1] == "|"]

    def row(self, program: str, precision: str, lines=LINES) -> list[str]:
        (row,) = [row for row in self.rows(lines) if row[2] == program and row[3] == precision]
        return row

    def test_a_peer_is_compared_with_ours_of_its_format_and_loss(self):
        self.assertEqual(self.row("PyTorch, eager", "bf16")[-1], "2.50")
        self.assertEqual(self.row("PyTorch, `torch.compile`, CUDA graphs", "bf16")[-1], "1.50")
        self.assertEqual(self.row("**xprompt**, vocabulary loss", "bf16")[-1], "")

    def test_shares_are_of_the_products_of_the_same_graph(self):
        self.assertEqual(self.row("**xprompt**, vocabulary loss", "bf16")[7], "50 %")
        self.assertEqual(self.row("PyTorch, eager", "bf16")[7], "20 %")
        self.assertEqual(self.row("**xprompt**, label loss", "bf16")[7], "", "its products were not measured")

    def test_repeated_lines_are_one_row_with_the_whole_range(self):
        again = [line("torch", "tune", ms, mode="eager", dtype="bf16") for ms in (48.0, 52.0)]
        row = self.row("PyTorch, eager", "bf16", LINES + again)
        self.assertEqual(row[4:6], ["50.0", "47.0 … 54.0"])

    def test_what_was_not_measured_says_why(self):
        (row,) = [row for row in self.rows(LINES) if "over budget" in row]
        self.assertIn("not done in 180 s", row)

    def test_memory_and_accuracy_have_tables_of_their_own(self):
        lines = [
            {"bench": "memory", "by": "xprompt", "shape": "large", "precision": "bf16", "status": "ok", "shared": True, "weights_mib": 1500, "scoring_mib": 2000, "generation_mib": 2300, "tuning_mib": 6000, "losses_mib": 6001},
            {"bench": "accuracy", "by": "xprompt", "prompt": "p", "precision": "bf16", "status": "ok", "rows": 200, "same": 199, "metrics": {"accuracy": 0.75}, "mean_difference": 0.001, "ninth_tenth": 0.002, "largest_difference": 0.03},
            {"bench": "accuracy", "by": "xprompt", "prompt": "q", "precision": "bf16", "status": "failed", "reason": "no card"},
        ]
        rows = self.rows(lines)
        self.assertIn(["large", "bf16", "shared", "1,500", "2,000", "2,300", "6,000", "6,001"], rows)
        self.assertIn(["p", "200", "bf16", "accuracy 75.00 %", "199 (99.50 %)", "1.0e-03", "2.0e-03", "3.0e-02"], rows)
        self.assertTrue(any("no card" in row for row in rows))

    def test_a_page_keeps_what_stands_around_its_tables(self):
        with tempfile.TemporaryDirectory() as folder:
            lines, page = Path(folder) / "lines.jsonl", Path(folder) / "page.md"
            lines.write_text("a word between\n" + "\n".join(map(json.dumps, LINES)))
            page.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
            with mock.patch("sys.argv", ["tables.py", str(lines), "--into", str(page)]):
                self.assertEqual(tables.main(), 0)
                once = page.read_text()
                self.assertEqual(tables.main(), 0)
            self.assertTrue(once.startswith("before\n") and once.endswith("after\n") and "old" not in once)
            self.assertEqual(page.read_text(), once)
            page.write_text("no marks")
            with mock.patch("sys.argv", ["tables.py", str(lines), "--into", str(page)]):
                self.assertEqual(tables.main(), 1)


class Search(unittest.TestCase):
    def test_a_shortened_task_keeps_all_but_controls_steps_and_place_of_its_data(self):
        task = """[data]
train = "data/x.jsonl"
[tuning]
batch_size = 8
max_steps = 6000
evaluate_every = 100
[pruning]
importance_rows = 1024
[controls]
masking = true
[rewinding]
max_steps = 900
evaluate_every = 100
"""
        short = """[data]
train = "/elsewhere/x.jsonl"
[tuning]
batch_size = 8
max_steps = 150
evaluate_every = 75
[pruning]
importance_rows = 256
[rewinding]
max_steps = 90
evaluate_every = 30
"""
        self.assertEqual(search.shortened(task, Path("/elsewhere"), 150), short)


class Counts(unittest.TestCase):
    def test_an_encoder_does_two_operations_for_each_weight_and_position(self):
        d, ff, heads, layers = 1024, 2816, 16, 24
        products = floor_counts.encoder((d, ff, heads, layers), 32, 148)
        by_hand = 2 * 32 * 148 * (4 * d * d + 3 * d * ff) + 2 * 2 * 32 * 148 * 148 * d
        self.assertEqual(sum(product.flops for product in products), by_hand)

    def test_a_gradient_costs_once_more_by_weights_and_twice_more_by_attention(self):
        weight = floor_counts.Product(1, 7, 5, 3, True)
        both = floor_counts.Product(4, 7, 5, 3, False)
        more = floor_counts.backward([weight, both])
        self.assertEqual(sum(product.flops for product in more), weight.flops + 2 * both.flops)


if __name__ == "__main__":
    unittest.main()
