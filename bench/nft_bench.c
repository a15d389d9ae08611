/* Interleaved two-namespace micro-benchmark: one thread is client and server, so that a connection's whole cost
 * (client, wire, firewall, server) is in one number; designs are compared in turns of one run.
 *
 * nft_bench MODE FAMILY CLIENT_NS PER_TURN TURNS SOURCES NAME:NS:ADDRESS ...
 *   MODE      conn: connect, 32 bytes each way, close;  bulk: 32 MiB through an open connection, sender and receiver each on a core
 *   SOURCES   how many source addresses to draw from, FIRST + 16 * index
 * Prints one line a turn: the median microseconds of one operation for each NAME, in order.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TARGETS = 16, PORTS = 8, FIRST_PORT = 8001, CLASSES = 50, USED = 4, STRIDE = 16, CHUNK = 1 << 18, BULK = 32 << 20 };

union address { struct sockaddr any; struct sockaddr_in v4; struct sockaddr_in6 v6; };
struct target { const char *name; union address to; int listening[PORTS]; int out, in; };

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

static void pin(int core) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(core, &one);
  sched_setaffinity(0, sizeof one, &one);
}

static void *pour(void *of) {
  struct target *t = of;
  pin(0);
  for (int sent = 0; sent < BULK;) {
    int more = send(t->out, outgoing, CHUNK, 0);
    if (more <= 0) fail("send");
    sent += more;
  }
  return 0;
}

static void bulk_transfer(struct target *t) {
  pthread_t sender;
  if (pthread_create(&sender, 0, pour, t)) fail("thread");
  for (int got = 0; got < BULK;) {
    int more = recv(t->in, buffer, CHUNK, 0);
    if (more <= 0) fail("recv");
    got += more;
  }
  pthread_join(sender, 0);
}

static int ascending(const void *a, const void *b) {
  double x = *(double *)a, y = *(double *)b;
  return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
  if (argc < 8) return 2;
  int bulk = !strcmp(argv[1], "bulk"), turn_size = atoi(argv[4]), turns = atoi(argv[5]);
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
  for (int k = 0; bulk && k < count; k++) opened(&targets[k], sources);
  double *times = malloc(sizeof(double) * turn_size);
  for (int turn = -2; turn < turns; turn++) {
    for (int k = 0; k < count; k++) {
      struct target *t = &targets[(k + (turn & 1 ? count / 2 : 0)) % count];
      for (int n = 0; n < turn_size; n++) {
        double begun = now_us();
        if (bulk) bulk_transfer(t); else connection(t, sources);
        times[n] = now_us() - begun;
      }
      qsort(times, turn_size, sizeof(double), ascending);
      if (turn >= 0) printf("%d %.4f%s", (int)(t - targets), times[turn_size / 2], k == count - 1 ? "\n" : " ");
    }
  }
  return 0;
}
