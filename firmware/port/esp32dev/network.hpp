// A line over the network of an ESP32 kit, in place of its UART.
#pragma once

namespace tmf::port {

// Joins the network that the user's header names, and opens the line there; does nothing in firmware without such a header.
void join_network();

}  // namespace tmf::port
