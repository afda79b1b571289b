package api

// socketsHaveOwners says that fstat gives a socket's owner and SO_ACCEPTCONN
// can be asked for.
const socketsHaveOwners = true
