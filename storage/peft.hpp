// Slots as PEFT directories: adapter_config.json and adapter_model.safetensors, which PEFT, vLLM and others
// load. Called by kpoolctl and by the serving side; blocks on the disk.
#pragma once

#include <string>
#include <string_view>

#include "core/result.hpp"

namespace kpool {

/// slot_blob: what Learner::save gives. Its momenta are left out; rank, alpha, generation, step and base
/// stay in the metadata of the tensors' file. The directory appears whole or not at all.
/// Errors: bad_input (damaged blob), usage (the directory is in use), no_space, io.
Status export_peft(std::string_view slot_blob, const std::string& directory);

/// A slot blob without momenta, float32, from a directory that export_peft or PEFT has written. Half-precision
/// tensors are widened, rank-stabilised scaling is brought into alpha; other kinds of adapter are refused.
/// The metadata has a base only where the directory was written by export_peft.
/// Errors: missing, io, bad_input, each naming the file.
Result<std::string> import_peft(const std::string& directory);

}  // namespace kpool
