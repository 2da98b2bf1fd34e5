/*
 * tcp_tally: how many bytes a TCP connection has carried since it was opened, as the
 * kernel counts them, whoever has it and whatever has become of those who had it before.
 */
#ifndef MOONPOOL_TCP_TALLY_H
#define MOONPOOL_TCP_TALLY_H

#include <stdint.h>

struct tcp_tally {
    uint64_t taken;   /* bytes that were read from it */
    uint64_t written; /* bytes that were written to it */
};

/*
 * 0, or -1 and errno: it is no TCP connection, or not one that was accepted and is still
 * connected. tcp(7): TCP_INFO; tcp_info.tcpi_bytes_received and tcpi_bytes_acked are of
 * RFC 4898, and count a FIN as a byte.
 */
int tcp_tally(int fd, struct tcp_tally *t);

#endif
