// The domains of an experiment: records to learn from and records held out, tokenised and embedded once by the
// daemon's own encoder. Read by the program, then constant.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/kpool_eval_plan.hpp"
#include "core/encoder.hpp"
#include "core/record.hpp"

namespace kpool {

struct Domain {
  std::string name;
  std::vector<EncodedRecord> training;  ///< in the order of their sources, shuffled within; origin.source: the file
  std::vector<EncodedRecord> held_out;  ///< of the same sources, or of test.jsonl; never learned
};

/// directory: one folder per domain with *.jsonl files of objects with `text` and perhaps `prompt`. What is held out is
/// the same for all seeds. Errors: missing, bad_input (file and line), bad_config (too few records).
Result<std::vector<Domain>> load_domains(const StreamPlan& plan, const std::string& directory, Encoder& encoder);

/// One record in its place in the stream.
struct Item {
  std::uint32_t domain = 0;
  std::uint32_t record = 0;  ///< index into Domain::training
};

/// The losses of all domains are measured after it.
struct StreamSegment {
  std::int64_t domain = -1;  ///< the only one in it, or -1
  std::vector<Item> items;
};

/// The stream of one seed: which records, in which order. Errors: bad_config (a domain has too few tokens).
Result<std::vector<StreamSegment>> make_stream(const StreamPlan& plan, const std::vector<Domain>& domains,
                                         std::uint64_t seed);

}  // namespace kpool
