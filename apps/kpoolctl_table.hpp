// A plain table for a terminal. Values in, text out.
#pragma once

#include <string>
#include <vector>

namespace kpool {

/// The first row is the heading. Columns are right-aligned, but for the first and the last.
std::string make_table(const std::vector<std::vector<std::string>>& rows);

/// value with so many digits after the point.
std::string fixed(double value, int digits);

}  // namespace kpool
