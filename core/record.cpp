#include "core/record.hpp"

namespace kpool {

const char* describe(Refusal reason) {
  switch (reason) {
    case Refusal::empty: return "the record is empty";
    case Refusal::too_long: return "the record is longer than the daemon's limit";
    case Refusal::not_utf8: return "the text is not valid UTF-8";
    case Refusal::no_tokens: return "the record has fewer than two tokens";
    case Refusal::numeric: return "training on the record gave a loss or gradient that is not finite";
    case Refusal::poison: return "the record was in flight at three crashes";
    case Refusal::bad_prompt: return "the prompt does not end on a character of the text";
    case Refusal::internal: return "the daemon failed on the record; its log says how";
    case Refusal::held: return "the record belongs to a slot that is on hold";
  }
  return "unknown reason";
}

}  // namespace kpool
