#include "core/threads.hpp"

#include <ATen/Parallel.h>

#include <catch2/catch.hpp>
#include <mutex>
#include <set>
#include <thread>

TEST_CASE("libtorch's loops run on as many threads as were asked for", "[threads]") {
  for (const std::uint32_t count : {1u, 2u, 3u}) {
    kpool::use_threads(count);
    std::mutex mutex;
    std::set<std::thread::id> threads;
    at::parallel_for(0, 300, 1, [&](std::int64_t, std::int64_t) {
      const std::lock_guard lock(mutex);
      threads.insert(std::this_thread::get_id());
    });
    CHECK(threads.size() == count);
  }
}
