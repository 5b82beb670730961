// Saving and restoring the mixture.
#include <utility>

#include "core/dense.hpp"
#include "core/mixture.hpp"

namespace kpool {

void Mixture::save(BlobWriter& out) const {
  for (std::uint32_t k = 0; k < slots_.size(); ++k) {
    const Slot& slot = slots_[k];
    std::vector<double> scatter = slot.scatter;
    if (slot.live) add_pending(slot, scatter);
    out.put<std::uint8_t>(slot.live);
    out.put(slot.records);
    out.put_all(slot.mean);
    out.put_all(scatter);
    out.put(slot.freedom);
    out.put(slot.expected);
    out.put_all(slot.whitened);
    out.put_all(slot.discriminant);
    out.put(slot.offset);
    out.put(slot.log_determinant);
  }
  out.put_all(center_);
  out.put_all(whitening_);
  out.put(expected_);
  out.put(refreshes_);
  out.put(absorbed_since_open_);
  out.put(next_refresh_);
}

bool Mixture::restore(BlobReader& in) {
  Mixture read(kind_, static_cast<std::uint32_t>(slots_.size()), width_, shrinkage_);
  const std::size_t scatter_size = kind_ == Covariance::tied ? triangle_size(width_) : width_;
  bool fits = true;
  for (Slot& slot : read.slots_) {
    slot.live = in.get<std::uint8_t>() != 0;
    slot.records = in.get<std::uint64_t>();
    slot.mean = in.get_all<double>();
    slot.scatter = in.get_all<double>();
    slot.freedom = in.get<double>();
    slot.expected = in.get<double>();
    slot.whitened = in.get_all<float>();
    slot.discriminant = in.get_all<float>();
    slot.offset = in.get<double>();
    slot.log_determinant = in.get<double>();
    const bool tied = kind_ == Covariance::tied;
    fits = fits && slot.mean.size() == (slot.live ? width_ : 0) &&
           slot.whitened.size() == (slot.live ? gate_width_ : 0) &&
           slot.discriminant.size() == (slot.live && tied ? width_ : 0) &&
           slot.scatter.size() == (slot.live ? scatter_size : 0);
  }
  read.center_ = in.get_all<double>();
  read.whitening_ = in.get_all<float>();
  read.expected_ = in.get<double>();
  read.refreshes_ = in.get<std::uint64_t>();
  read.absorbed_since_open_ = in.get<std::uint64_t>();
  read.next_refresh_ = in.get<std::uint64_t>();
  const std::size_t whitening_size = kind_ == Covariance::tied && read.scaled() ? scatter_size : 0;
  fits = fits && !in.failed() && read.center_.size() == width_ && read.whitening_.size() == whitening_size;
  if (!fits) return false;
  if (!read.whitening_.empty()) read.panels_ = pack_lower(read.whitening_, width_);
  *this = std::move(read);
  return true;
}

}  // namespace kpool
