#include <catch2/catch.hpp>

#include <fstream>
#include <sstream>

#include "config/schema.hpp"

using namespace kpool;

namespace {
const std::string path = std::string(KPOOL_SOURCE_DIR) + "/docs/configuration.md";
}

TEST_CASE("docs/configuration.md is what the table of keys says") {
  std::ifstream in(path);
  REQUIRE(in);
  std::ostringstream text;
  text << in.rdbuf();
  INFO("to write it anew: config_tests '[write-reference]'");
  CHECK((text.str() == configuration_reference()));
}

TEST_CASE("write docs/configuration.md", "[.][write-reference]") {
  std::ofstream(path) << configuration_reference();
}
