// A user's header for a board that serves a TCP port.
#define TMF_WIFI_NAME "lab"
#define TMF_WIFI_PASSWORD "of the lab"
#define TMF_TCP_PORT 4242
