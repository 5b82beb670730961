// How far a posterior over slots can be trusted: its confidence beside how often it is right, in ten bins. A value.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include <nlohmann/json.hpp>

namespace kpool {

class Calibration {
 public:
  /// posterior: (slots), or empty: not counted. own: the slot that is right.
  void add(std::span<const double> posterior, std::uint32_t own) {
    if (posterior.empty()) return;
    const auto most = std::max_element(posterior.begin(), posterior.end());
    Bin& bin = bins_[std::min(bins_.size() - 1, static_cast<std::size_t>(*most * static_cast<double>(bins_.size())))];
    ++bin.records;
    bin.confidence += *most;
    bin.right += most - posterior.begin() == static_cast<std::ptrdiff_t>(own);
  }
  /// [[records, sum of the confidences, records whose likeliest slot is right], ...] by confidence, no empty bins.
  nlohmann::ordered_json table() const {
    nlohmann::ordered_json table = nlohmann::ordered_json::array();
    for (const Bin& bin : bins_)
      if (bin.records > 0) table.push_back({bin.records, bin.confidence, bin.right});
    return table;
  }

 private:
  struct Bin {
    std::uint64_t records = 0;
    double confidence = 0;
    std::uint64_t right = 0;
  };
  std::array<Bin, 10> bins_;
};

}  // namespace kpool
