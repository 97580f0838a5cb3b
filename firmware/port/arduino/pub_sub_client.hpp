// Includes the library PubSubClient as a system header, so that our warning flags do not apply to it.
#pragma once
#pragma GCC system_header

#include <PubSubClient.h>
