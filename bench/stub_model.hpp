// Parts without a model, for measuring the pipeline around it: an encoder that hashes words into one
// of five Gaussian clouds, and a learner that counts.
#pragma once

#include <cstdint>
#include <span>

#include "actors/pipeline.hpp"

namespace kpool {

/// When a record reached the encoder and the learner, steady-clock nanoseconds by seq; in memory that the measuring
/// process shares with the daemon's, and reads when the record is acknowledged. Seqs beyond it are not stamped.
struct Stamps {
  std::span<std::int64_t> encoded, learned;
};

/// width: of the embeddings; store_path: where the real RocksDB lives.
Parts stub_parts(std::size_t width, std::uint32_t slots, const std::string& store_path, Stamps stamps);

}  // namespace kpool
