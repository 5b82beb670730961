// Loads what the model commands need to embed and tokenize. Used by one command on one thread.
#pragma once

#include <memory>

#include "apps/kpoolctl_model.hpp"
#include "apps/kpoolctl_pool.hpp"
#include "core/encoder.hpp"
#include "core/record.hpp"
#include "core/tokenizer.hpp"

namespace kpool {

/// The encoder that was asked for, else the pool's (where one is given), else base:13. Errors: mismatch
/// (another one than the pool's), usage (minilm without its path).
Result<EncoderOptions> choose_encoder(const ModelOptions& options, const Pool* pool);

/// Loads only so much of the base as the encoder needs. Errors: as Base::load, make_encoder.
Result<std::unique_ptr<Encoder>> load_encoder(const ModelOptions& options, const Pool* pool);

/// Prompt and completion are tokenized apart, as the encoding stage does.
Sample tokenize(const Record& record, const Tokenizer& tokenizer);

}  // namespace kpool
