// Parts without a model, for measuring the pipeline around it: an encoder that hashes words into one
// of five Gaussian clouds, and a learner that counts.
#pragma once

#include "actors/pipeline.hpp"

namespace kpool {

/// width: of the embeddings; store_path: where the real RocksDB lives.
Parts stub_parts(std::size_t width, std::uint32_t slots, const std::string& store_path);

}  // namespace kpool
