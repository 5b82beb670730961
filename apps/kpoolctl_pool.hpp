// A stored pool as the commands use it: opened without the right to write, its values by meaning.
// Values in, values out, but for open_pool, which reads the disk.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.hpp"
#include "storage/store.hpp"

namespace kpool {

struct Pool {
  std::string path;
  Values values;
};

/// path: a store, also of a running daemon, or a snapshot. Errors: as open_store_read_only, Store::load.
Result<Pool> open_pool(const std::string& path);

/// The blob of slot `index`. Errors: missing, naming the slots that there are.
Result<std::string> slot_blob(const Pool& pool, std::uint32_t index);
/// Errors: missing (nothing was routed yet).
Result<std::string> mixture_blob(const Pool& pool);
/// The encoder_identity of what made the embeddings of the mixture, as the pool remembers it.
std::optional<std::string> stored_encoder(const Pool& pool);
/// Errors: mismatch, where the pool remembers another base.
Status check_base(const Pool& pool, std::string_view model, std::string_view fingerprint);

/// What a slot's blob says of itself.
struct SlotLabel {
  std::string base;  ///< fingerprint
  std::string rank, alpha;
  std::uint64_t generation = 0, step = 0;
};

/// Checks all of the blob. Errors: bad_input (damaged, a number is absent or not finite).
Result<SlotLabel> read_slot(std::string_view blob);

/// `kpoolctl export`. Errors: as open_pool, slot_blob, export_peft.
Status export_slot(const std::string& store, std::uint32_t index, const std::string& directory);

}  // namespace kpool
