// tiny_model PATH [SEED]: writes a random-weight model for shell tests.
#include <cstdlib>
#include <iostream>

#include "tests/tiny_model.hpp"

int main(int count, char** arguments) {
  if (count < 2 || count > 3) {
    std::cerr << "usage: tiny_model PATH [SEED]\n";
    return 64;
  }
  kpool::testing::TinyModel model;
  if (count == 3) model.seed = std::strtoull(arguments[2], nullptr, 10);
  kpool::testing::write_tiny_model(model, arguments[1]);
  return 0;
}
