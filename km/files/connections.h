// Who is connected to the program.
#ifndef KM_FILES_CONNECTIONS_H_
#define KM_FILES_CONNECTIONS_H_

#include "km/files/fd_table.h"

namespace km {

// Whether a host's descriptor is a listening socket.
bool IsListening(int host_fd);

struct Connections {
  bool listens = false;  // there is a listening socket
  // A connection to one of them is open in the table, or waits to be accepted.
  bool open = false;
};

// Looks at every socket of `table`. A connection that was accepted has the listener's own address,
// which tells it from those that the program made itself: to other services, pairs of sockets. One
// counts until the program closes it or it is reset. Thread-safe; what changes meanwhile may be
// missed.
Connections LookForConnections(const FdTable& table);

}  // namespace km

#endif  // KM_FILES_CONNECTIONS_H_
