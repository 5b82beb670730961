// Saving and restoring the router: everything that decides later decisions.
#include <string>
#include <utility>

#include "core/blob.hpp"
#include "core/mixture_router.hpp"

namespace kpool {
namespace {

constexpr std::string_view state_tag = "kpool mixture 1\n";

}  // namespace

std::string MixtureRouter::save() const {
  BlobWriter out(state_tag);
  out.put(options_.slots);
  out.put<std::uint64_t>(width_);
  out.put<std::uint8_t>(options_.covariance == "diagonal");
  out.put(generation_);
  for (const NoveltyGate& gate : gates_) {
    out.put(gate.count);
    out.put(gate.mean);
    out.put(gate.variance);
  }
  out.put<std::uint8_t>(claim_.on);
  out.put(claim_.slot);
  out.put(claim_.source);
  out.put(claim_.left);
  out.put(claim_.patience);
  out.put_all(eviction_order_);
  KPOOL_ASSERT(waiting_.empty());
  out.put<std::uint64_t>(runs_.size());
  for (const auto& [source, run] : runs_) {
    KPOOL_ASSERT(run.held.empty());
    out.put(source);
    out.put(run.evidence);
    out.put<std::uint64_t>(run.released.size());
    for (const Distance& distance : run.released) {
      out.put(distance.slot);
      out.put(distance.value);
    }
  }
  mixture_.save(out);
  return out.close();
}

Status MixtureRouter::restore(std::string_view bytes) {
  Result<BlobReader> opened = BlobReader::open(bytes, state_tag, "the saved mixture");
  if (!opened) return opened.error();
  BlobReader& in = *opened;
  const auto slots = in.get<std::uint32_t>();
  const auto width = in.get<std::uint64_t>();
  const bool diagonal = in.get<std::uint8_t>() != 0;
  if (slots != options_.slots || width != width_ || diagonal != (options_.covariance == "diagonal"))
    return Error{Fault::mismatch, "the saved mixture has " + std::to_string(slots) + " slots of width " +
                                      std::to_string(width) + (diagonal ? " (diagonal)" : " (tied)") +
                                      "; this router has " + std::to_string(options_.slots) + " of width " +
                                      std::to_string(width_) + " (" + options_.covariance + ")"};
  MixtureRouter read(options_, width_);
  if (!read.read_state(in)) return Error{Fault::bad_input, "the saved mixture is inconsistent"};
  mixture_ = std::move(read.mixture_);
  gates_ = std::move(read.gates_);
  generation_ = read.generation_;
  claim_ = read.claim_;
  runs_ = std::move(read.runs_);
  waiting_.clear();
  eviction_order_ = std::move(read.eviction_order_);
  return Done{};
}

bool MixtureRouter::read_state(BlobReader& in) {
  generation_ = in.get<std::uint64_t>();
  for (NoveltyGate& gate : gates_) {
    gate.count = in.get<std::uint64_t>();
    gate.mean = in.get<double>();
    gate.variance = in.get<double>();
  }
  claim_.on = in.get<std::uint8_t>() != 0;
  claim_.slot = in.get<std::uint32_t>();
  claim_.source = in.get<std::uint32_t>();
  claim_.left = in.get<std::uint64_t>();
  claim_.patience = in.get<std::uint64_t>();
  eviction_order_ = in.get_all<std::uint32_t>();
  bool fits = claim_.slot < options_.slots;
  for (auto runs = in.get<std::uint64_t>(); runs > 0 && !in.failed(); --runs) {
    Run& run = runs_[in.get<std::uint32_t>()];
    run.evidence = in.get<double>();
    for (auto left = in.get<std::uint64_t>(); left > 0 && !in.failed(); --left) {
      run.released.push_back({in.get<std::uint32_t>(), in.get<double>()});
      fits = fits && run.released.back().slot < options_.slots;
    }
  }
  return fits && mixture_.restore(in) && in.complete();
}

Result<SavedRouter> read_router(std::string_view bytes, RoutingOptions options) {
  constexpr std::uint64_t slots_max = 4096, width_max = 16384;  // beyond, the bytes are nonsense
  Result<BlobReader> opened = BlobReader::open(bytes, state_tag, "the saved mixture");
  if (!opened) return opened.error();
  options.slots = opened->get<std::uint32_t>();
  const auto width = opened->get<std::uint64_t>();
  options.covariance = opened->get<std::uint8_t>() != 0 ? "diagonal" : "tied";
  if (opened->failed() || options.slots == 0 || options.slots > slots_max || width == 0 || width > width_max)
    return Error{Fault::bad_input, "the saved mixture has no sensible shape"};
  SavedRouter saved{make_router(options, width), width};
  if (auto restored = saved.router->restore(bytes); !restored) return restored.error();
  return saved;
}

}  // namespace kpool
