"""The report's metrics and statistics on small cases with known answers; run by ctest with bench/eval as argument."""
import contextlib
import copy
import hashlib
import io
import json
import math
import pathlib
import sys
import tempfile
import unittest
import unittest.mock

sys.path.insert(0, sys.argv.pop(1))
import comparisons  # noqa: E402
import figures  # noqa: E402
import metrics  # noqa: E402
import paired  # noqa: E402
import report  # noqa: E402

# Two domains, one after the other; the first forgets 0.3 and its slot is never confused.
ROW = {"run": "kpool seed=1", "method": "kpool", "seed": 1, "domains": ["a", "b"], "segments": [-1, 0, 1],
       "losses": [[4.0, 5.0], [3.0, 4.8], [3.4, 2.0]], "own_losses": [[4.0, 5.0], [3.0, 5.0], [3.3, 2.0]],
       "owners": [[0, 0], [1, 0], [1, 2]], "queries": [[[[0, 10]], [[0, 10]]]] * 2 + [[[[1, 9], [2, 1]], [[2, 10]]]],
       "prequential": [3.5, None], "assigned": [[[1, 30]], [[2, 30]]],
       "births": [{"record": 1, "domain": 0, "evicts": False}, {"record": 36, "domain": 1, "evicts": False}],
       "records": 60, "seconds": 2000.0}

for number, birth in enumerate(ROW["births"]):
    birth |= {"slot": number, "generation": number + 1}


def tested_row(method, seed, loss, cell=None):
    """The small run, ending at the same loss on both domains."""
    row = copy.deepcopy(ROW) | {"method": method, "seed": seed, "cell": cell or {}}
    row["losses"][-1] = [loss, loss]
    return row


class Metrics(unittest.TestCase):
    def test_known_row(self):
        found = metrics.of_row(ROW)
        for key, value in {"final_loss": 2.7, "base_loss": 4.5, "forgetting": 0.4, "prequential": 3.5,
                           "backward_transfer": -0.4,
                           "forward_transfer": 0.2, "routing_accuracy": 0.95, "worst_domain": 0.9, "nmi": 1.0,
                           "effective_slots": 2.0, "extra_births": 0, "extra_birth_rate": 0, "birth_delay": 6,
                           "conditional_entropy": 0, "regret_routing": 0.05, "regret_interference": 0.15,
                           "regret_eviction": 0}.items():
            self.assertAlmostEqual(found[key], value, msg=key)

    def test_calibration_error(self):
        # 10 records at 0.9 of which 8 are right, 30 at 0.6 of which 21 are: (1 + 3) / 40
        row = ROW | {"calibration": [[], [], [[30, 18.0, 21], [10, 9.0, 8]]]}
        self.assertAlmostEqual(metrics.of_row(row)["ece"], 0.1)
        self.assertNotIn("ece", metrics.of_row(ROW))
        self.assertNotIn("ece", metrics.of_row(ROW | {"calibration": [[], [], []]}))

    def test_regret_sums_to_what_was_lost(self):
        found = metrics.of_row(ROW)
        lost = ((3.4 - 3.0) + (2.0 - 2.0)) / 2
        self.assertAlmostEqual(sum(found[f"regret_{name}"] for name in ("routing", "interference", "eviction")), lost)

    def test_eviction(self):
        row = copy.deepcopy(ROW)
        row["owners"][2] = [0, 3]
        row["births"].append({"record": 50, "domain": 1, "evicts": True, "slot": 0, "generation": 3})
        found = metrics.of_row(row)
        self.assertAlmostEqual(found["regret_eviction"], 0.2)
        self.assertEqual(found["domains_without_own_slot"], 1)

    def test_owner_that_changed_but_lives_is_no_eviction(self):
        row = copy.deepcopy(ROW)
        row["owners"][2], row["own_losses"][2] = [2, 2], [3.35, 2.0]
        found = metrics.of_row(row)
        self.assertEqual(found["regret_eviction"], 0)
        self.assertAlmostEqual(found["regret_interference"], (3.35 - 3.0) / 2)

    def test_forgetting_looks_at_every_earlier_segment(self):
        losses = [[1.0, 9.0], [3.0, 9.0], [4.0, 2.0], [3.5, 4.0], [3.9, 2.1]]  # the base's 1.0 is no segment's
        self.assertAlmostEqual(metrics.forgetting(losses, {0: 3, 1: 4}), 3.9 - 3.0)

    def test_collapse(self):
        found = metrics.collapse(ROW)
        names = ("max_share", "cv2", "dead_slots", "collapsed_lines")
        self.assertEqual([found[name] for name in names], [0.5, 0, 0, 0])
        row = copy.deepcopy(ROW)
        row["queries"][2] = [[[1, 10]], [[1, 6], [0, 4]]]  # slot 1 answers all that slots answer
        row["assigned"] = [[[1, 99], [2, 1]], [[1, 100]]]
        found = metrics.collapse(row)
        self.assertEqual((found["max_share"], found["dead_slots"], found["collapsed_lines"]), (0.995, 1, 1))
        self.assertAlmostEqual(found["cv2"], 0.495 ** 2 / 0.25)
        self.assertIsNone(metrics.collapsed(row, 1))  # one domain seen

    def test_mutual_information(self):
        nmi = metrics.normalised_mutual_information
        self.assertAlmostEqual(nmi([[[1, 5], [2, 5]], [[1, 5], [2, 5]]]), 0)
        self.assertAlmostEqual(nmi([[[1, 5], [2, 5]], [[3, 10]]]), 0.8)  # ln 2 over the mean of ln 2 and 1.5 ln 2


    def test_conditional_entropy(self):
        entropy = metrics.conditional_entropy
        self.assertAlmostEqual(entropy([[[1, 5], [2, 5]], [[3, 30]], []]), math.log(2) / 4)
        self.assertTrue(math.isnan(entropy([[], []])))

    def test_birth_delay(self):
        row = copy.deepcopy(ROW) | {"segments": [-1, 1, 0], "owners": [[0, 0], [0, 1], [2, 1]]}
        row["births"] = [birth | {"domain": domain} for birth, domain in zip(row["births"], (1, 0))]
        row["assigned"] = [[[1, 2], [2, 28]], [[1, 30]]]
        self.assertEqual(metrics.birth_delay(row), 6)
        row["births"].append({"record": 45, "domain": 0, "slot": 2, "generation": 3, "evicts": False})
        self.assertEqual(metrics.birth_delay(row), 6)  # another slot is the domain's own
        self.assertAlmostEqual(metrics.of_row(row)["extra_birth_rate"], 1000 / 7.5)
        row["owners"][2] = [3, 1]
        self.assertEqual(metrics.birth_delay(row), 15)
        row["owners"][2] = [1, 1]
        self.assertIsNone(metrics.birth_delay(row))  # the domain shares the first one's slot
        for segments in ([-1, 0, 1, 0], [-1, 0, -1]):
            self.assertIsNone(metrics.birth_delay(ROW | {"segments": segments, "owners": [[1, 2]] * 4}))


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

    def test_two_one_sided_tests_by_hand(self):
        # mean 0.005, sd 0.01, n = 4: t = (0.02 +- 0.005) / 0.005, that is 5 and 3; t(0.95, 3) = 2.353363
        spread = 0.01 * math.sqrt(3) / 2
        found = paired.tost([0.005 + sign * spread for sign in (1, 1, -1, -1)], 0.02)
        self.assertAlmostEqual(found["sd"], 0.01)
        self.assertAlmostEqual(found["p_lower"], 0.0076962190, places=8)
        self.assertAlmostEqual(found["p_upper"], 0.0288344428, places=8)
        self.assertAlmostEqual(found["ci90"][1], 0.005 + 2.3533634348 * 0.005, places=8)
        self.assertEqual(found["verdict"], "equivalent")

    def test_sign_flips_and_holm(self):
        self.assertAlmostEqual(paired.sign_flip([1, 1, 1, 1]), 2 / 16)
        self.assertEqual([round(p, 9) for p in paired.holm([0.01, 0.04, 0.03])], [0.03, 0.06, 0.06])

    def test_bootstrap_repeats(self):
        values = [1.0, 2.0, 4.0, 3.5]
        self.assertEqual(paired.bootstrap(values), paired.bootstrap(values))
        self.assertTrue(paired.bootstrap(values)[0] < 2.625 < paired.bootstrap(values)[1])


class Comparisons(unittest.TestCase):
    def verdicts(self, shifts, margin=0.02):
        """Of kpool against three methods: runs of ten seeds that end higher by the shift, a little noise added."""
        noise = [0.001 * (seed % 3) for seed in range(10)]
        rows = [tested_row("kpool", seed, 3.0) for seed in range(10)]
        rows += [tested_row(f"m{shift}", seed, 3.0 + shift + noise[seed]) for shift in shifts for seed in range(10)]
        return [one["verdict"] for one in comparisons.of_methods(report.grouped(rows), margin)]

    def test_verdicts(self):
        no = "not shown to be equivalent within 0.02"
        self.assertEqual(self.verdicts([0.0, 0.5, -0.5, 0.0194]),
                         ["equivalent within 0.02", no + ": better by more than that", no + ": worse by more than that",
                          no + ", but not worse by that"])

    def test_holm_over_cells_can_undo_a_verdict(self):
        rows = []
        for cell in range(4):
            for seed, difference in enumerate((0.0164, 0.0094, -0.0036, -0.0036)):  # p about 0.03 alone
                rows.append(tested_row("kpool", seed, 3 + difference, {"k": str(cell)}))
                rows.append(tested_row("task-id", seed, 3.0, {"k": str(cell)}))
        alone = comparisons.of_methods(report.grouped(rows[:8]), 0.02)
        together = comparisons.of_methods(report.grouped(rows), 0.02)
        self.assertEqual(alone[0]["verdict"], "equivalent within 0.02")
        self.assertAlmostEqual(together[0]["p_equivalent_holm"], 4 * alone[0]["p_equivalent_holm"])
        self.assertEqual({one["verdict"] for one in together}, {"not shown to be equivalent within 0.02"})

    def test_choices_and_divergence(self):
        rows = [tested_row("task-id", seed, 3 + shift, {"policy": policy})
                for policy, shift in (("count", 0), ("lru", 0.1)) for seed in range(3)]
        found = comparisons.of_choices(report.grouped(rows), 0.02)
        self.assertEqual([(one["of"], one["minus"], one["n"]) for one in found], [("lru", "count", 3)])
        self.assertAlmostEqual(found[0]["mean"], 0.1)
        rows[0]["losses"][-1][0] = float("nan")
        self.assertEqual(comparisons.of_choices(report.grouped(rows), 0.02)[0]["verdict"], "a run diverged")


class Figures(unittest.TestCase):
    def test_curve_over_the_one_numeric_setting(self):
        rows = [tested_row("kpool", seed, float(k), {"k": str(k), "births": kind})
                for k in (10, 2) for kind in ("fresh", "warm") for seed in (1, 2)]
        setting, lines = figures.curves(report.grouped(rows))
        self.assertEqual((setting, list(lines)), ("k", ["kpool, fresh", "kpool, warm"]))
        self.assertEqual([point[:2] for point in lines["kpool, warm"]], [(2.0, 2.0), (10.0, 10.0)])
        self.assertIsNone(figures.bars(report.grouped(rows)))

    def test_bars_where_there_is_no_such_setting(self):
        rows = [tested_row("kpool", seed, 3.0, {"policy": policy}) for policy in ("count", "lru") for seed in (1, 2)]
        (chart,) = figures.bars(report.grouped(rows)).values()
        self.assertEqual(chart, [("kpool, count", 4.5, 3.0, (3.0, 3.0)), ("kpool, lru", 4.5, 3.0, (3.0, 3.0))])
        rows = [{key: value for key, value in row.items() if key != "losses"} for row in rows]
        routing, information = figures.bars(report.grouped(rows)).values()
        self.assertEqual((routing[0][1:3], information[0][1:3]), ((0, 0.95), (0, 1.0)))

    def test_maps_of_the_cells_that_end_lowest(self):
        rows = [tested_row(method, 1, loss, {"k": str(loss)})
                for method in ("kpool", "task-id") for loss in (math.nan, 4.0, 2.0, 3.0, 5.0)]
        losses = report.losses_by_segment(rows)
        self.assertEqual(figures.panels(losses[:8]), losses[:8])
        self.assertEqual([one[:3] for one in figures.panels(losses)],
                         [("kpool", (("k", "2.0"),), 1), ("task-id", (("k", "2.0"),), 1)])

    def test_pictures(self):
        for cells in ([{}], [{"k": "1"}, {"k": "2"}]):
            rows = [tested_row("kpool", seed, loss, cell)
                    for cell in cells for seed, loss in ((1, 3.0), (2, 2.5), (3, math.nan))]
            drawn, missing = report.pictures(report.grouped(rows), report.losses_by_segment(rows))
            self.assertTrue(len(drawn) == 2 and all(picture.startswith("<svg") for _, picture in drawn) if drawn
                            else "no matplotlib" in missing)

    def test_report_without_matplotlib(self):
        with unittest.mock.patch.dict(sys.modules, {"matplotlib": None}):
            drawn, missing = report.pictures(report.grouped([ROW]), report.losses_by_segment([ROW]))
        self.assertEqual((drawn, "no matplotlib" in missing), ([], True))


class Report(unittest.TestCase):
    def test_orders_that_differ_are_averaged_by_position(self):
        other = copy.deepcopy(ROW) | {"segments": [-1, 1, 0]}
        other["losses"] = [line[::-1] for line in ROW["losses"]]
        table = report.matrix(*report.mean_losses([ROW, other]))
        self.assertEqual(table[0], ["after", "learned 1.", "learned 2."])
        self.assertEqual(table[2:], [["learned 1.", "3.000", "4.800"], ["learned 2.", "3.400", "2.000"]])
        self.assertIsNone(report.mean_losses([ROW, copy.deepcopy(ROW) | {"segments": [-1, 0, -1]}]))

    def test_duration(self):
        self.assertEqual([report.duration(seconds) for seconds in (6.4, 95, 3599, 40000)],
                         ["6 s", "2 min", "1 h 0 min", "11 h 7 min"])

    def run_report(self, digest, rest=""):
        with tempfile.TemporaryDirectory() as directory:
            plan, results = pathlib.Path(directory, "plan.toml"), pathlib.Path(directory, "results.jsonl")
            plan.write_text('name = "small"\nquestion = "Why?"\n'
                            'methods = ["kpool", "task-id"]\n'
                            'seeds = [1, 2]\n')
            known = hashlib.sha256(plan.read_bytes()).hexdigest()
            rows = [dict(ROW, plan=digest or known), dict(ROW, plan=digest or known, method="task-id")]
            results.write_text("".join(json.dumps(row) + "\n" for row in rows) + rest)
            page = pathlib.Path(directory, "page.html")
            sys.argv = ["report.py", str(plan), str(results), "--html", str(page)]
            with contextlib.redirect_stdout(io.StringIO()):
                report.main()
            return page.read_text()

    def test_tables(self):
        page = self.run_report(None)
        for part in ("<h1>small</h1>", "2 of 4 planned runs, 1 h 7 min", "Why?", "<td>0.4000</td>",
                     "one pair says nothing", "<td>(base)</td>"):
            self.assertIn(part, page)

    def test_lines_that_are_no_results(self):
        self.assertIn("2 of 4 planned runs", self.run_report(None, '{"run": "cut sh'))
        with self.assertRaises(SystemExit) as refused:
            self.run_report(None, '{"run": "no plan"}\n')
        self.assertIn("results.jsonl:3 is no result of kpool-eval", str(refused.exception))

    def test_results_of_another_plan_are_refused(self):
        with self.assertRaises(SystemExit) as refused:
            self.run_report("0" * 64)
        self.assertIn("results.jsonl:1 is of another plan", str(refused.exception))


if __name__ == "__main__":
    unittest.main()
