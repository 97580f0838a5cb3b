// A user's header for a board at an MQTT broker that it asks over TLS, with a user and a password.
#define TMF_WIFI_NAME "lab"
#define TMF_WIFI_PASSWORD "of the lab"
#define TMF_MQTT_HOST "broker.example"
#define TMF_MQTT_TOPIC "lab/kitchen"
#define TMF_MQTT_USER "kitchen"
#define TMF_MQTT_PASSWORD "of the kitchen"
#define TMF_MQTT_CA "-----BEGIN CERTIFICATE-----\n"
