// `kpoolctl model`: what a base model is, and what it makes of texts. One process loads the model once and
// works through all records; memory is bounded by one portion of them.
#pragma once

#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

#include "core/base.hpp"
#include "core/result.hpp"

namespace kpool {

struct ModelOptions {
  std::string model;               ///< GGUF
  std::string precision = "auto";  ///< auto | float32 | bfloat16
  std::string weights = "bf16";    ///< bf16 | quantised
  std::string device = "cpu";      ///< cpu | cuda
  std::uint32_t threads = 0;       ///< 0: one per core
  std::vector<std::string> in;     ///< none: standard input
  std::string out;                 ///< empty: standard output
  bool quiet = false;
  std::string encoder;             ///< base:L | minilm; empty: the store's, else base:13
  std::string encoder_path;        ///< of minilm
  std::string products = "auto";   ///< auto | int8 | full: of base:L
  std::string under = "base";      ///< base | slot:N | auto | directory of an adapter
  std::string store = "/var/lib/kpool";
};

/// The console as the commands see it.
struct Console {
  std::istream& in;
  std::ostream& out;
  std::ostream& complaints;
};

Status model_info(const ModelOptions& options, bool json, const Console& console);
Status model_tokenize(const ModelOptions& options, const Console& console);
Status model_embed(const ModelOptions& options, const Console& console);
Status model_score(const ModelOptions& options, const Console& console);

}  // namespace kpool
