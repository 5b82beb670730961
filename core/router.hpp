// Routing: an online Gaussian mixture with a novelty gate decides which slot a record trains, when a
// new slot is born, and which record waits for that decision (docs/routing.md).
// Each record is judged by itself: how far out it is for the slot that it surprises least. What is not
// surprising trains the nearest slot at once; what is waits while its source's run lasts, a cumulative
// sum of surprise, which opens a slot or comes to nothing. Runs are kept per source, so sources may
// interleave freely. What one source streams together from its first record on is one domain.
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

/// What a source's novel run came to, and the numbers that decided it.
struct Verdict {
  enum class Outcome : std::uint8_t {
    opens,    ///< a slot: a Birth follows
    joins,    ///< `nearest`, as another source of its domain
    no_room,  ///< a new domain, but every slot is taken and none may be evicted: its records go to the closest slots
    nothing   ///< the records were ordinary after all
  };
  Outcome outcome = Outcome::nothing;
  std::uint32_t source = 0;
  std::size_t records = 0;               ///< that waited
  double evidence = 0, needed = 0;       ///< summed surprise; a run that is confirmed by a barrier needs less
  std::optional<std::uint32_t> nearest;  ///< slot to their mean; within `limit` they join it
  double distance = 0, limit = 0;
  /// Where two slots were close enough to each other to become one to make room.
  struct Merge {
    double distance = 0;
    double needed = 0;                ///< RoutingOptions::merge_agreement
    std::optional<double> agreement;  ///< of their adapters, where it is needed and was measured since the last birth
    bool accepted() const { return needed <= 0 || (agreement && *agreement >= needed); }
  };
  std::optional<Merge> merge;
};

/// In the order in which they take effect: a Verdict, its Birth, the assignments to that slot.
using Decision = std::variant<Assignment, Birth, Verdict>;

struct RoutingOptions {
  std::uint32_t slots = 5;
  std::string covariance = "tied";  ///< tied | diagonal
  double shrinkage = 0.1;           ///< share of (trace / width) I in the covariance, at the least
  std::uint32_t dimensions = 320;   ///< of the mixture: a random projection of the embedding; 0: all of it
  double power = 1;                 ///< coordinates enter as sign(x) |x|^power: tames the few that are huge
  double false_alarm = 1e-3;        ///< chance that a batch of a known slot is more surprising than allowed
  std::uint32_t batch_records = 8;  ///< records that are judged together
  std::uint32_t novel_batches = 3;  ///< the evidence of so many batches opens a slot
  std::uint32_t claim_batches = 4;  ///< batches for which a new slot claims what was novel to the others
  /// A novel run whose mean is no farther from a slot's is another source of its domain and trains it; in squared
  /// distances of the slots' own records. 0: every source that is told apart opens a slot.
  double join_distance = 0.95;
  double merge_agreement = 0;       ///< slots whose adapters agree less do not become one; 0: not asked
  bool evicts = true;               ///< false: where all slots are taken, a new domain shares them (no_room)
  double abstain = 12;              ///< a query that is so surprising to every slot, in standard deviates, fits none
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
  /// A pinned slot is neither evicted nor merged. Not part of the saved state: the caller says it again.
  virtual void pin(std::uint32_t slot, bool pinned) = 0;
  /// The slots that would become one if a birth came now, where options ask how well their adapters agree.
  virtual std::optional<MergePair> merge_candidate() const = 0;
  /// How well they do. Not part of the saved state: the caller says it again.
  virtual void set_agreement(const std::optional<MergePair>& pair) = 0;
  /// Query time: the slot whose density is highest, or nothing where the record fits none.
  virtual std::optional<std::uint32_t> classify(std::span<const float> x) const = 0;
  /// (slots) how likely each is to be the record's, given that one of them is: calibrated, summing to 1; 0 for slots
  /// that are not in use. Empty before the first slot is open.
  virtual std::vector<double> posterior(std::span<const float> x) const = 0;
  virtual std::string save() const = 0;
  /// Errors: bad_input (damaged), mismatch (other shape).
  virtual Status restore(std::string_view bytes) = 0;
};

std::unique_ptr<Router> make_router(const RoutingOptions& options, std::size_t width);

/// A router as it was saved, for queries. Its shape (slots, covariance, widths, power) is what the bytes say; the rest
/// is of `options`. Errors: bad_input.
struct SavedRouter {
  std::unique_ptr<Router> router;
  std::size_t width = 0;
};
Result<SavedRouter> read_router(std::string_view bytes, RoutingOptions options);

}  // namespace kpool
