#include "tcp_tally.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* Behind netinet/in.h, in place of netinet/tcp.h, which lacks the counters. */
#include <linux/tcp.h>

enum { ESTABLISHED = 1, CLOSE_WAIT = 8 }; /* tcpi_state, as the kernel numbers them */

static int read_info(int fd, struct tcp_info *info)
{
    socklen_t len = sizeof *info;
    memset(info, 0, sizeof *info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &len) < 0)
        return -1;
    if (info->tcpi_state == ESTABLISHED || info->tcpi_state == CLOSE_WAIT)
        return 0;
    errno = ENOTCONN;
    return -1;
}

/* What was received and is still queued is asked for between two looks at what was
 * received, so that nothing comes in between; likewise for what was sent. */
int tcp_tally(int fd, struct tcp_tally *t)
{
    struct tcp_info before, after;
    int unread, unacked;
    if (read_info(fd, &after) < 0)
        return -1;
    do {
        before = after;
        if (ioctl(fd, SIOCINQ, &unread) < 0 || ioctl(fd, SIOCOUTQ, &unacked) < 0 ||
            read_info(fd, &after) < 0)
            return -1;
    } while (before.tcpi_bytes_received != after.tcpi_bytes_received ||
             before.tcpi_bytes_acked != after.tcpi_bytes_acked ||
             before.tcpi_state != after.tcpi_state);
    t->taken =
        after.tcpi_bytes_received - (uint64_t)unread - (after.tcpi_state == CLOSE_WAIT);
    t->written = after.tcpi_bytes_acked + (uint64_t)unacked;
    return 0;
}
