/* Interleaved two-namespace micro-benchmark: one thread is client and server, so that a connection's whole cost
 * (client, wire, firewall, server) is in one number; designs are compared in turns of one run.
 *
 * nft_bench MODE FAMILY CLIENT_NS PER_TURN TURNS SOURCES NAME:NS:ADDRESS ...
 *   MODE      conn: connect, 32 bytes each way, close
 *             bulk: 1 MiB through an open connection, in segments as large as the kernel makes them (64 KiB)
 *             packet: 64 packets of 64 bytes through an open connection, one at a time
 *             paced: as conn, to the one design given, PER_TURN a second for TURNS seconds; prints how many there were
 *   SOURCES   how many source addresses to draw from, FIRST + 16 * index
 * A turn is PER_TURN operations of every design: of connections all of a design together, of the others one of each in a
 * new order every time, so that whatever else the machine does falls on all of them alike.
 * Prints one line a turn: the median microseconds of one operation for each NAME, each after its number.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TARGETS = 16, PORTS = 8, FIRST_PORT = 8001, CLASSES = 50, USED = 4, STRIDE = 16, CHUNK = 1 << 18, BULK = 1 << 20, PACKETS = 64, SMALL = 64 };

union address { struct sockaddr any; struct sockaddr_in v4; struct sockaddr_in6 v6; };
struct target { const char *name; union address to; int listening[PORTS]; int out, in; double *times; };

static struct target targets[TARGETS];
static int family, count;
static socklen_t size;
static char buffer[CHUNK], outgoing[CHUNK];
static uint64_t seed = 88172645463325252ull;

static uint64_t draw(void) { seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17; return seed; }

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void fail(const char *what) { perror(what); exit(1); }

static void enter(const char *name) {
  char path[256];
  snprintf(path, sizeof path, "/run/netns/%s", name);
  int handle = open(path, O_RDONLY);
  if (handle < 0 || setns(handle, CLONE_NEWNET)) fail(name);
  close(handle);
}

static union address parse(const char *text, int port) {
  union address a;
  memset(&a, 0, sizeof a);
  a.any.sa_family = family;
  void *where = family == AF_INET ? (void *)&a.v4.sin_addr : (void *)&a.v6.sin6_addr;
  if (text && inet_pton(family, text, where) != 1) { fprintf(stderr, "bad address %s\n", text); exit(1); }
  if (family == AF_INET) a.v4.sin_port = htons(port); else a.v6.sin6_port = htons(port);
  return a;
}

static union address source(uint32_t index) {
  union address a = parse(family == AF_INET ? "10.0.0.1" : "fd00::1", 0);
  uint32_t low = index * STRIDE;
  if (family == AF_INET) a.v4.sin_addr.s_addr = htonl(ntohl(a.v4.sin_addr.s_addr) + low);
  else { uint32_t *word = (uint32_t *)&a.v6.sin6_addr + 3; *word = htonl(ntohl(*word) + low); }
  return a;
}

static void listen_all(struct target *t) {
  int one = 1;
  for (int i = 0; i < PORTS; i++) {
    union address a = parse(NULL, FIRST_PORT + i);
    t->listening[i] = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(t->listening[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(t->listening[i], &a.any, size) || listen(t->listening[i], 128)) fail("listen");
  }
}

static int accepted(int listening) {
  struct pollfd ready = {listening, POLLIN, 0};
  int got = accept4(listening, 0, 0, 0);
  if (got < 0 && poll(&ready, 1, 2000) == 1) got = accept4(listening, 0, 0, 0);
  if (got < 0) fail("accept");
  return got;
}

static void opened(struct target *t, uint32_t sources) {
  uint32_t index = draw() % sources;
  int port = (index % CLASSES + draw() % USED) % PORTS, one = 1;
  struct timeval limit = {3, 0};
  union address from = source(index), to = t->to;
  if (family == AF_INET) to.v4.sin_port = htons(FIRST_PORT + port); else to.v6.sin6_port = htons(FIRST_PORT + port);
  t->out = socket(family, SOCK_STREAM, 0);
  setsockopt(t->out, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
  setsockopt(t->out, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (bind(t->out, &from.any, size)) fail("bind");
  if (connect(t->out, &to.any, size)) { fprintf(stderr, "%s, source %u, port %d: ", t->name, index, FIRST_PORT + port); fail("connect"); }
  t->in = accepted(t->listening[port]);
}

static void connection(struct target *t, uint32_t sources) {
  struct linger at_once = {1, 0};
  opened(t, sources);
  setsockopt(t->out, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  if (send(t->out, buffer, 32, 0) != 32 || recv(t->in, buffer, 64, 0) != 32) fail("there");
  if (send(t->in, buffer, 32, 0) != 32 || recv(t->out, buffer, 64, 0) != 32) fail("back");
  close(t->out);
  close(t->in);
}

static void paced(struct target *t, uint32_t sources, int rate, int seconds) {
  double begun = now_us(), now;
  long made = 0;
  while ((now = (now_us() - begun) / 1e6) < seconds)
    if (made < now * rate) { connection(t, sources); made++; } else usleep(500);
  printf("%ld\n", made);
}

static void pin(int core) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(core, &one);
  sched_setaffinity(0, sizeof one, &one);
}

/* One thread sends and receives, so the time is all the work there is: sender, wire, firewall, receiver, answers. */
static void bulk_transfer(struct target *t) {
  for (int sent = 0, got = 0; got < BULK;) {
    int want = BULK - sent < CHUNK ? BULK - sent : CHUNK;
    int more = want ? send(t->out, outgoing, want, MSG_DONTWAIT) : 0;
    if (more < 0 && errno != EAGAIN) fail("send");
    if (more > 0) sent += more;
    while ((more = recv(t->in, buffer, CHUNK, MSG_DONTWAIT)) > 0) got += more;
    if (!more || errno != EAGAIN) fail("recv");
  }
}

static void packets(struct target *t) {
  for (int n = 0; n < PACKETS; n++)
    if (send(t->out, outgoing, SMALL, 0) != SMALL || recv(t->in, buffer, SMALL, MSG_WAITALL) != SMALL) fail("packet");
}

static int ascending(const void *a, const void *b) {
  double x = *(double *)a, y = *(double *)b;
  return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
  if (argc < 8) return 2;
  int turn_size = atoi(argv[4]), turns = atoi(argv[5]), one = 1;
  int is_conn = !strcmp(argv[1], "conn"), is_bulk = !strcmp(argv[1], "bulk"), together = is_conn ? turn_size : 1;
  uint32_t sources = strtoul(argv[6], 0, 10);
  family = atoi(argv[2]) == 6 ? AF_INET6 : AF_INET;
  size = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
  pin(sysconf(_SC_NPROCESSORS_ONLN) - 1);
  for (int i = 7; i < argc && count < TARGETS; i++) {
    struct target *t = &targets[count++];
    t->name = strtok(argv[i], ",");
    enter(strtok(0, ","));
    t->to = parse(strtok(0, ","), 0);
    listen_all(t);
  }
  enter(argv[3]);
  if (!strcmp(argv[1], "paced")) { paced(&targets[0], sources, turn_size, turns); return 0; }
  for (int k = 0; k < count; k++) {
    targets[k].times = malloc(sizeof(double) * turn_size);
    if (is_conn) continue;
    opened(&targets[k], sources);
    setsockopt(targets[k].out, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  int order[TARGETS];
  for (int k = 0; k < count; k++) order[k] = k;
  for (int turn = -2; turn < turns; turn++) {
    for (int done = 0; done < turn_size; done += together) {
      for (int k = count - 1; k > 0; k--) { int j = draw() % (k + 1), was = order[k]; order[k] = order[j]; order[j] = was; }
      for (int k = 0; k < count; k++) {
        struct target *t = &targets[order[k]];
        for (int n = done; n < done + together; n++) {
          double begun = now_us();
          if (is_conn) connection(t, sources); else if (is_bulk) bulk_transfer(t); else packets(t);
          t->times[n] = now_us() - begun;
        }
      }
    }
    for (int k = 0; k < count && turn >= 0; k++) {
      qsort(targets[k].times, turn_size, sizeof(double), ascending);
      printf("%d %.4f%s", k, targets[k].times[turn_size / 2], k == count - 1 ? "\n" : " ");
    }
  }
  return 0;
}
