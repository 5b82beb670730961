// Routing: an online Gaussian mixture with a novelty gate decides which slot a record trains, when a
// new slot is born, and which record waits for that decision (docs/routing.md).
// Each record is judged by itself. One that fits a slot trains it at once; one that is novel to all
// slots waits. Batches serve the birth alone: of one source's last batch_records records more than half
// novel make a novel batch, and novel_batches of them in a row open a slot, so sources may interleave
// freely. What a source streams together from its first record on is one domain.
// Owned by the routing stage, used on its thread alone. Text and tokens never come here: a record is
// known by its ticket.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/learner.hpp"
#include "core/result.hpp"

namespace kpool {

using Ticket = std::uint64_t;

/// The caller's record `ticket` trains `slot`.
struct Assignment {
  Ticket ticket = 0;
  std::uint32_t slot = 0;
};

/// In the order in which they take effect: a Birth stands before the assignments to its slot.
using Decision = std::variant<Assignment, Birth>;

struct RoutingOptions {
  std::uint32_t slots = 5;
  std::string covariance = "tied";  ///< tied | diagonal
  double shrinkage = 0.1;           ///< share of (trace / width) I in the covariance, at the least
  double power = 0.5;               ///< coordinates enter as sign(x) |x|^power: tames the few that are huge
  double false_alarm = 0.2;         ///< alpha of the novelty gate: share of a slot's own records beyond it
  std::uint32_t batch_records = 8;  ///< records that are judged together
  double novel_share = 0.6;         ///< share of a batch that must be novel to make a novel batch
  std::uint32_t novel_batches = 3;  ///< novel batches in a row that open a slot
  std::uint32_t claim_batches = 4;  ///< batches for which a new slot claims what was novel to the others
};

class Router {
 public:
  virtual ~Router() = default;
  /// Takes one record; returns what is decided now (for this record, for ones held back, or nothing).
  /// x: (width) embedding. source: whose record it is; novel runs are counted per source.
  virtual std::vector<Decision> route(Ticket ticket, std::span<const float> x, std::uint32_t source = 0) = 0;
  /// A barrier: decides about every record that is still held back.
  virtual std::vector<Decision> barrier() = 0;
  /// The order in which slots would be evicted, most expendable first (from fragility). It holds
  /// until the next call; a birth without a free slot takes the first.
  virtual void set_eviction_order(std::vector<std::uint32_t> order) = 0;
  /// Query time: the slot whose density is highest, or nothing where the record fits none.
  virtual std::optional<std::uint32_t> classify(std::span<const float> x) const = 0;
  virtual std::string save() const = 0;
  /// Errors: bad_input (damaged), mismatch (other width or number of slots).
  virtual Status restore(std::string_view bytes) = 0;
};

std::unique_ptr<Router> make_router(const RoutingOptions& options, std::size_t width);

}  // namespace kpool
