// The watchdog of a board with an Arduino core: resets a board whose main loop has stopped, which then rejoins the federation.
#pragma once

namespace tmf::port {

// Says that the main loop still runs. A board's folder may implement it; its init() then starts a watchdog that resets the board
// when nobody has called it for board::kWatchdogSeconds. That is several times the longest training step, by codegen's estimate.
void feed_watchdog();

}  // namespace tmf::port
