"""The report's metrics and statistics on small cases with known answers; run by ctest with bench/eval as argument."""
import contextlib
import copy
import hashlib
import io
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, sys.argv.pop(1))
import metrics  # noqa: E402
import paired  # noqa: E402
import report  # noqa: E402

# Two domains, one after the other; the first forgets 0.3 and its slot is never confused.
ROW = {"run": "kpool seed=1", "method": "kpool", "seed": 1, "domains": ["a", "b"], "segments": [-1, 0, 1],
       "losses": [[4.0, 5.0], [3.0, 4.8], [3.4, 2.0]], "own_losses": [[4.0, 5.0], [3.0, 5.0], [3.3, 2.0]],
       "owners": [[0, 0], [1, 0], [1, 2]], "queries": [[[[0, 10]], [[0, 10]]]] * 2 + [[[[1, 9], [2, 1]], [[2, 10]]]],
       "prequential": [3.5, None], "assigned": [[[1, 30]], [[2, 30]]],
       "births": [{"domain": 0, "evicts": False}, {"domain": 1, "evicts": False}]}


class Metrics(unittest.TestCase):
    def test_known_row(self):
        found = metrics.of_row(ROW)
        for key, value in {"final_loss": 2.7, "base_loss": 4.5, "forgetting": 0.4, "prequential": 3.5,
                           "backward_transfer": -0.4,
                           "forward_transfer": 0.2, "routing_accuracy": 0.95, "worst_domain": 0.9, "nmi": 1.0,
                           "effective_slots": 2.0, "extra_births": 0, "regret_routing": 0.05,
                           "regret_interference": 0.15, "regret_eviction": 0}.items():
            self.assertAlmostEqual(found[key], value, msg=key)

    def test_regret_sums_to_what_was_lost(self):
        found = metrics.of_row(ROW)
        lost = ((3.4 - 3.0) + (2.0 - 2.0)) / 2
        self.assertAlmostEqual(sum(found[f"regret_{name}"] for name in ("routing", "interference", "eviction")), lost)

    def test_eviction(self):
        row = copy.deepcopy(ROW)
        row["owners"][2] = [0, 3]
        found = metrics.of_row(row)
        self.assertAlmostEqual(found["regret_eviction"], 0.2)
        self.assertEqual(found["domains_without_own_slot"], 1)

    def test_mutual_information(self):
        nmi = metrics.normalised_mutual_information
        self.assertAlmostEqual(nmi([[[1, 5], [2, 5]], [[1, 5], [2, 5]]]), 0)
        self.assertAlmostEqual(nmi([[[1, 5], [2, 5]], [[3, 10]]]), 0.8)  # ln 2 over the mean of ln 2 and 1.5 ln 2


class Paired(unittest.TestCase):
    def test_t(self):
        self.assertAlmostEqual(paired.t_upper_tail(2.0, 5), 0.0509697394, places=9)
        self.assertAlmostEqual(paired.t_quantile(0.95, 12), 1.7822875556, places=6)

    def test_equivalence_needs_both_sides(self):
        close = paired.tost([0.002, -0.001, 0.003, 0.0, -0.002], 0.02)
        self.assertEqual(close["verdict"], "equivalent")
        for far in ([0.05, 0.06, 0.055, 0.05, 0.06], [0.03, -0.04, 0.05, -0.03, 0.02]):
            self.assertEqual(paired.tost(far, 0.02)["verdict"], "not shown to be equivalent")
        self.assertEqual(paired.tost([0.0], 0.02)["verdict"], "one pair says nothing")

    def test_sign_flips_and_holm(self):
        self.assertAlmostEqual(paired.sign_flip([1, 1, 1, 1]), 2 / 16)
        self.assertEqual([round(p, 9) for p in paired.holm([0.01, 0.04, 0.03])], [0.03, 0.06, 0.06])

    def test_bootstrap_repeats(self):
        values = [1.0, 2.0, 4.0, 3.5]
        self.assertEqual(paired.bootstrap(values), paired.bootstrap(values))
        self.assertTrue(paired.bootstrap(values)[0] < 2.625 < paired.bootstrap(values)[1])


class Report(unittest.TestCase):
    def run_report(self, digest):
        with tempfile.TemporaryDirectory() as directory:
            plan, results = pathlib.Path(directory, "plan.toml"), pathlib.Path(directory, "results.jsonl")
            plan.write_text('name = "small"\nquestion = "Why?"\n')
            known = hashlib.sha256(plan.read_bytes()).hexdigest()
            rows = [dict(ROW, plan=digest or known), dict(ROW, plan=digest or known, method="task-id")]
            results.write_text("".join(json.dumps(row) + "\n" for row in rows))
            page = pathlib.Path(directory, "page.html")
            sys.argv = ["report.py", str(plan), str(results), "--html", str(page)]
            with contextlib.redirect_stdout(io.StringIO()):
                report.main()
            return page.read_text()

    def test_tables(self):
        page = self.run_report(None)
        for part in ("<h1>small</h1>", "Why?", "<td>0.4000</td>", "one pair says nothing", "<td>(base)</td>"):
            self.assertIn(part, page)

    def test_results_of_another_plan_are_refused(self):
        with self.assertRaises(SystemExit) as refused:
            self.run_report("0" * 64)
        self.assertIn("results.jsonl:1 is of another plan", str(refused.exception))


if __name__ == "__main__":
    unittest.main()
