// What the codec tests share: hostile variations of a frame, and a Catch2-friendly look at bytes.
#pragma once

#include <cstring>
#include <random>
#include <string>

#include "messages/frame.hpp"

namespace kpool::test {

inline std::string bytes_of(const Frame& frame) {
  return {reinterpret_cast<const char*>(frame.bytes().data()), frame.bytes().size()};
}

inline Frame frame_of(const std::string& bytes) { return Frame::copy(std::as_bytes(std::span(bytes))); }

/// Decodes every truncation, every single flipped bit, and 2000 frames with random words in them;
/// returns how many of all were refused. Reaching the end is the proof: no throw, no crash.
template <class Decode>
std::size_t torment(const Frame& valid, Decode&& decode) {
  const std::string bytes = bytes_of(valid);
  std::size_t refused = 0;
  for (std::size_t size = 0; size < bytes.size(); ++size) refused += !decode(frame_of(bytes.substr(0, size)));
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    refused += !decode(frame_of(flipped));
  }
  std::mt19937_64 random(bytes.size());
  for (int round = 0; round < 2000; ++round) {
    std::string mutated = bytes;
    for (std::uint64_t n = random() % 4 + 1; n > 0; --n) {
      const std::uint64_t word = random() >> random() % 64;
      std::memcpy(mutated.data() + random() % (mutated.size() / 8) * 8, &word, 8);
    }
    refused += !decode(frame_of(mutated));
  }
  return refused;
}

}  // namespace kpool::test
