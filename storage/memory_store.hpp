// The store of tests and stubs: a map, gone with the process.
#pragma once

#include <memory>

#include "storage/store.hpp"

namespace kpool {

std::unique_ptr<Store> make_memory_store();

}  // namespace kpool
