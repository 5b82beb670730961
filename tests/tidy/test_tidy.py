"""The checks of tidy on small samples, good and bad, so that each of them is seen to fail."""
import unittest

import functions
import includes
import tidy

GOOD_CPP = '''// What it is.
#include "core/result.hpp"
#include <ATen/ATen.h>
#include <vector>

namespace kpool {
namespace {
const char* text = R"(void f() { { { )";  // an unbalanced { in a comment
int table[] = {1, 2, 3};
}  // namespace

struct Point {
  int x{0}, y = 1;
  Point(int a, int b) : x{a}, y(b) { ++x; }
  auto sum() const -> std::vector<int> { return {x, y}; }
};

template <class T>
int short_one(T value) noexcept {
  if (value) { return '{'; }
  auto f = [&](int a) { return a + 1'000; };
  return f(1);
}
}  // namespace kpool
'''


def function_of(lines):
    return "int long_one(int a) {\n" + "  ++a;\n" * (lines - 2) + "}\n"


class Functions(unittest.TestCase):
    def test_finds_each_function_and_nothing_else(self):
        found = functions.cpp_functions(GOOD_CPP)
        self.assertEqual(found, [(14, 14), (15, 15), (18, 23)])

    def test_sees_a_function_that_is_too_long(self):
        self.assertEqual(functions.check("core/a.cpp", function_of(69), 70), [])
        self.assertIn("line 1 has 70", functions.check("core/a.cpp", function_of(70), 70)[0])

    def test_sees_it_inside_a_class_of_a_namespace(self):
        text = "namespace a {\nclass B : public C {\n public:\n  B() : c_{1}, d_(2) {\n"
        text += "    f();\n" * 80 + "  }\n};\n}\n"
        self.assertEqual(functions.cpp_functions(text), [(4, 85)])

    def test_sees_a_test_case_and_an_operator(self):
        text = 'TEST_CASE("a { b", "[c]") {\n  CHECK(f({1}));\n}\nbool T::operator()(int) const\n{\n  return {};\n}\n'
        self.assertEqual(functions.cpp_functions(text), [(1, 3), (4, 7)])

    def test_counts_python_functions(self):
        for lines, complaints in ((69, 0), (70, 1)):
            text = "def f():\n" + "    pass\n" * (lines - 1)
            self.assertEqual(len(functions.check("a.py", text, 70)), complaints)


class Includes(unittest.TestCase):
    def complaint(self, path, line):
        return includes.check(path, line + "\n")

    def test_allows_what_the_rules_allow(self):
        self.assertEqual(includes.check("core/a.cpp", GOOD_CPP), [])
        self.assertEqual(self.complaint("actors/a.cpp", "#include <caf/all.hpp>"), [])
        self.assertEqual(self.complaint("tests/actors_a.cpp", "#include <caf/all.hpp>"), [])
        self.assertEqual(self.complaint("messages/a.cpp", '#include "messages/gateway.capnp.h"'), [])

    def test_refuses_a_folder_that_is_above(self):
        self.assertIn("core/ may include", self.complaint("core/a.cpp", '#include "messages/frame.hpp"')[0])
        self.assertTrue(self.complaint("messages/a.cpp", '#include "storage/store.hpp"'))
        self.assertTrue(self.complaint("clients/a.cpp", '#include "actors/wiring.hpp"'))

    def test_refuses_foreign_libraries(self):
        self.assertTrue(self.complaint("core/a.cpp", "#include <zmq.hpp>"))
        self.assertTrue(self.complaint("core/a.cpp", "# include <rocksdb/db.h>"))
        self.assertTrue(self.complaint("storage/a.cpp", "#include <ATen/ATen.h>"))
        self.assertIn("only actors/", self.complaint("apps/a.cpp", "#include <caf/all.hpp>")[0])
        self.assertTrue(self.complaint("tests/core_a.cpp", "#include <caf/all.hpp>"))
        self.assertTrue(self.complaint("bench/a.cpp", "#include <torch/torch.h>"))

    def test_keeps_core_pure(self):
        self.assertTrue(self.complaint("core/a.cpp", "std::ofstream file(path);"))
        self.assertTrue(self.complaint("core/a.cpp", "auto now = std::chrono::system_clock::now();"))
        self.assertEqual(self.complaint("actors/a.cpp", "auto now = std::chrono::system_clock::now();"), [])


class Files(unittest.TestCase):
    def complaints(self, path, text):
        return " ".join(tidy.check(path, text.encode()))

    def test_a_good_file_passes(self):
        self.assertEqual(self.complaints("core/a.cpp", GOOD_CPP), "")
        self.assertEqual(self.complaints("core/a.hpp", "// What it is.\n#pragma once\n"), "")
        self.assertEqual(self.complaints("deploy/a.sh", "#!/usr/bin/env bash\nset -euo pipefail\n"), "")

    def test_sizes(self):
        self.assertIn("300 lines", self.complaints("core/a.cpp", "//\n" * 300))
        self.assertEqual(self.complaints("core/a.cpp", "//\n" * 299), "")
        self.assertIn("121 wide", self.complaints("core/a.cpp", "//" + "x" * 119 + "\n"))
        self.assertIn("a main of 101", self.complaints("apps/a.cpp", "int main() {}\n" + "//\n" * 100))

    def test_headers(self):
        self.assertIn("pragma once", self.complaints("core/a.hpp", "// What it is.\n"))
        self.assertIn("opens with a comment", self.complaints("core/a.hpp", "#pragma once\n"))

    def test_text(self):
        self.assertIn("newline", self.complaints("README.md", "no end"))
        self.assertIn("unfinished", self.complaints("README.md", "TO" + "DO: later\n"))
        self.assertIn("one machine", self.complaints("config/a.toml", 'path = "/' + 'root/models"\n'))
        self.assertIn("set -e", self.complaints(".ci/run", "#!/usr/bin/env bash\necho\n"))


if __name__ == "__main__":
    unittest.main()
