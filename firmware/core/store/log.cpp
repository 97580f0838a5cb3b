// Compiles the log of the board's storage once; part of firmware with a store only.
#include <saved_state.hpp>

namespace tmf::store {

template class Log<PortFlash, kSlotPages, model::kFeedsBack || model::kKeepsLocal>;

}  // namespace tmf::store
