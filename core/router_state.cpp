// Saving and restoring the router: everything that decides later decisions.
#include <cstdio>
#include <string>
#include <utility>

#include "core/blob.hpp"
#include "core/mixture_router.hpp"

namespace kpool {
namespace {

constexpr std::string_view state_tag = "kpool mixture 2\n";

/// What a saved state and a router must agree in.
struct Shape {
  std::uint32_t slots = 0;
  std::uint64_t width = 0, dimensions = 0;
  double power = 0;
  bool diagonal = false;

  Shape(const RoutingOptions& options, const Projection& projection)
      : slots(options.slots),
        width(projection.width()),
        dimensions(projection.dimensions()),
        power(options.power),
        diagonal(options.covariance == "diagonal") {}
  explicit Shape(BlobReader& in)
      : slots(in.get<std::uint32_t>()),
        width(in.get<std::uint64_t>()),
        dimensions(in.get<std::uint64_t>()),
        power(in.get<double>()),
        diagonal(in.get<std::uint8_t>() != 0) {}
  void save(BlobWriter& out) const {
    out.put(slots);
    out.put(width);
    out.put(dimensions);
    out.put(power);
    out.put<std::uint8_t>(diagonal);
  }
  bool operator==(const Shape&) const = default;
  std::string text() const {
    char exponent[16];
    std::snprintf(exponent, sizeof exponent, "%g", power);
    return std::to_string(slots) + " slots of width " + std::to_string(width) + " (" + std::to_string(dimensions) +
           " dimensions, power " + exponent + (diagonal ? ", diagonal)" : ", tied)");
  }
};

}  // namespace

std::string MixtureRouter::save() const {
  BlobWriter out(state_tag);
  Shape(options_, projection_).save(out);
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
  const Shape saved(in), own(options_, projection_);
  if (saved != own)
    return Error{Fault::mismatch, "the saved mixture has " + saved.text() + "; this router has " + own.text()};
  MixtureRouter read(options_, projection_.width());
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
  const Shape shape(*opened);
  if (opened->failed() || shape.slots == 0 || shape.slots > slots_max || shape.width == 0 ||
      shape.width > width_max || shape.dimensions == 0 || shape.dimensions > shape.width)
    return Error{Fault::bad_input, "the saved mixture has no sensible shape"};
  options.slots = shape.slots;
  options.dimensions = static_cast<std::uint32_t>(shape.dimensions);
  options.power = shape.power;
  options.covariance = shape.diagonal ? "diagonal" : "tied";
  SavedRouter saved{make_router(options, shape.width), shape.width};
  if (auto restored = saved.router->restore(bytes); !restored) return restored.error();
  return saved;
}

}  // namespace kpool
