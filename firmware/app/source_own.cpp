// The user's own sample source, found by the path that the experiment's task.source gives.
#include "own_source.hpp"
