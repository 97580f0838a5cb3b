// The user's own sample source: own_source.hpp is generated and includes the file that the experiment gives as task.source.
#include "own_source.hpp"
