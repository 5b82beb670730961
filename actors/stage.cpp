#include "actors/stage.hpp"

#include <array>

namespace kpool {

namespace {
constexpr std::array<const char*, stage_count> names = {"ingestion", "encoding",    "routing", "training",
                                                        "fragility", "persistence", "serving"};
}

const char* name(StageId id) { return names[static_cast<std::size_t>(id)]; }

std::optional<StageId> stage_named(std::string_view wanted) {
  for (std::size_t i = 0; i < stage_count; ++i)
    if (wanted == names[i]) return static_cast<StageId>(i);
  return std::nullopt;
}

Status Stage::restore(const std::string& key, std::string) {
  return Error{Fault::internal,
               std::string(name(id())) + " was given the stored value '" + key + "', which is not its own"};
}

Status Stage::start(std::uint64_t, Outbox&) { return Done{}; }

}  // namespace kpool
