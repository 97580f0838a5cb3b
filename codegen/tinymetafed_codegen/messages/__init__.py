"""The wire's records, and the wire table as C++ and as pages of docs."""
