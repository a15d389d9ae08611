/* The two hot loops of flow import: text lines to columns, and columns to connections between labelled endpoints.
 *
 * Optional: without it `flows/tokens.py` and `flows/sqlmerge.py` compute the same results, and the tests compare the two.
 * Python objects are touched only with the GIL held; the loops run without it.
 *
 * INVARIANT: every update of a connection is a sum, a maximum, a minimum or an OR, so the order of records never matters.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "for little-endian machines; on others the numpy and SQL paths are used"
#endif

#define ABI 2 /* of what Python sees: `plan.py`, `settle.py` and `merge.py` say the same; one more at every change */
#define MAX_LINE 65536
#define MAX_SECONDS 4294967295ULL
#define MAX_COUNT 9223372036854775807ULL
#define HASHED_CHARS 64
#define V4_PREFIX 0xFFFF00000000ULL

typedef const uint8_t *text;

#include "_flowlines.c"

/* ---- columns to connections -------------------------------------------------------------------------------------------- */

enum { FLAG_A = 1, FLAG_B = 2, ORIGIN_A = 4, ORIGIN_B = 8, SYN_REJECTED = 16 };
enum { BY_PORT, BY_FAN_IN, BY_FLAGS, BY_ORIGINATOR };
#define UNKNOWN 0
#define ALLOWED 1
#define BLOCKED 2
#define WOULD_BLOCK 3
#define FAN_IN 3
#define MOST_FAN 127
#define LISTENER 128
#define NEVER 0xFFFFFFFFu

typedef struct { uint64_t hi, lo; uint32_t network, first, count, bare; } address;
typedef struct { uint64_t hi, lo; uint32_t network; int32_t owner; } endpoint;
typedef struct { uint64_t reporter, bytes[2], packets[2]; uint32_t opens[2], bits, next; } report;
typedef struct { uint64_t k1, k2; uint32_t first[2], last, votes; report report; } connection;
typedef struct { uint64_t k1, k2; int64_t connections, packets, bytes; uint32_t first, last; uint8_t confidence, fan, pad[6]; } edge;
_Static_assert(sizeof(endpoint) == 24 && sizeof(edge) == 56, "merge.OWNED and merge.EDGE");
typedef struct { void *at; uint64_t used, room; } pile;   /* a growing array */
typedef struct { uint64_t *at; uint64_t mask; } hashed;   /* open addressing: hash's upper half << 32 | position + 1; 0 is free */

typedef struct {
    PyObject_HEAD
    hashed address_index, connection_index, edge_index;
    pile addresses, endpoints, connections, reports, edges;
    uint64_t *sockets, sockets_used, sockets_mask;
    int64_t *lease_start, *lease_end;
    int32_t *lease_owner;
    uint32_t *lease_endpoint;
    Py_ssize_t leases;
    uint64_t early, late;
    int is_busy;
} merger;

static inline uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t h = (a ^ (b * 0x9E3779B97F4A7C15ULL)) * 0xC2B2AE3D27D4EB4FULL;
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93ULL;
    return h ^ h >> 29;
}

static inline uint64_t plus(uint64_t a, uint64_t b) { return a + b > MAX_COUNT ? MAX_COUNT : a + b; }

/* Room for `more` in a pile of `size`-byte things; 0 when there is no memory. */
static int reserve(pile *p, uint64_t more, size_t size) {
    if (p->used + more <= p->room) return 1;
    uint64_t room = p->room ? p->room * 2 : 1024;
    while (room < p->used + more) room *= 2;
    void *at = room < 0xFFFFFFFFu ? realloc(p->at, room * size) : NULL;
    if (!at) return 0;
    p->at = at;
    p->room = room;
    return 1;
}

static int rehash(hashed *h, uint64_t wanted) {
    if (h->at && wanted * 2 <= h->mask + 1) return 1;
    uint64_t room = h->at ? h->mask + 1 : 1024;
    while (room < wanted * 3) room *= 2;
    uint64_t *at = calloc(room, sizeof *at);
    if (!at) return 0;
    for (uint64_t i = 0; h->at && i <= h->mask; i++)
        if (h->at[i]) {
            uint64_t q = (h->at[i] >> 32) & (room - 1);
            while (at[q]) q = (q + 1) & (room - 1);
            at[q] = h->at[i];
        }
    free(h->at);
    h->at = at;
    h->mask = room - 1;
    return 1;
}

/* Walks the candidates of a hash: `position` of one whose upper half agrees, or the free cell where it belongs. */
#define FIND(index, hash, position, is_same, is_new)                                              \
    uint64_t cell_ = (uint32_t)(hash)&(index)->mask, want_ = (uint64_t)(uint32_t)(hash) << 32, got_; \
    int is_new = 1;                                                                               \
    uint64_t position = 0;                                                                        \
    for (; (got_ = (index)->at[cell_]); cell_ = (cell_ + 1) & (index)->mask) {                     \
        position = (got_ & 0xFFFFFFFFu) - 1;                                                      \
        if (((got_ ^ want_) >> 32) == 0 && (is_same)) { is_new = 0; break; }                       \
    }

#define PLACE(index, position) ((index)->at[cell_] = want_ | ((position) + 1))

#define ADDRESSES(m) ((address *)(m)->addresses.at)
#define ENDPOINTS(m) ((endpoint *)(m)->endpoints.at)
#define CONNECTIONS(m) ((connection *)(m)->connections.at)
#define REPORTS(m) ((report *)(m)->reports.at)
#define EDGES(m) ((edge *)(m)->edges.at)

static int64_t intern(merger *m, uint32_t network, uint64_t hi, uint64_t lo) {
    address *all = ADDRESSES(m);
    FIND(&m->address_index, mix(lo, hi + network), at, all[at].lo == lo && all[at].hi == hi && all[at].network == network, is_new)
    if (!is_new) return (int64_t)at;
    if (!reserve(&m->addresses, 1, sizeof(address))) return -1;
    at = m->addresses.used++;
    ADDRESSES(m)[at] = (address){hi, lo, network, 0, 0, 0};
    PLACE(&m->address_index, at);
    return rehash(&m->address_index, m->addresses.used + 1) ? (int64_t)at : -1;
}

static uint32_t new_endpoint(merger *m, const address *a, int32_t owner) {
    if (!reserve(&m->endpoints, 1, sizeof(endpoint))) return 0;
    ENDPOINTS(m)[m->endpoints.used] = (endpoint){a->hi, a->lo, a->network, owner};
    return (uint32_t)m->endpoints.used++;
}

/* The endpoint of one lease; leases of one address and owner share it. */
static uint32_t held_by(merger *m, const address *a, uint32_t lease) {
    uint32_t found = m->lease_endpoint[lease];
    for (uint32_t k = a->first; !found && k < a->first + a->count; k++)
        if (m->lease_owner[k] == m->lease_owner[lease]) found = m->lease_endpoint[k];
    if (!found) found = new_endpoint(m, a, m->lease_owner[lease]);
    return m->lease_endpoint[lease] = found;
}

/* Who held the address then (half-open leases, milliseconds; a contested one is nobody's): an endpoint, 0 without memory. */
static uint32_t holder(merger *m, int64_t at, int64_t ms) {
    address *a = &ADDRESSES(m)[at];
    uint32_t lo = 0, n = a->count;
    const int64_t *start = m->lease_start + a->first;
    if (n) {
        for (; n > 1; n -= n / 2) lo += start[lo + n / 2] <= ms ? n / 2 : 0;
        if (start[lo] > ms) m->early++;
        else if (ms >= m->lease_end[a->first + lo]) m->late++;
        else if (m->lease_owner[a->first + lo] >= 0) {
            uint32_t known = m->lease_endpoint[a->first + lo];
            return known ? known : held_by(m, a, a->first + lo);
        }
    }
    if (!a->bare) a->bare = new_endpoint(m, a, -1);
    return a->bare;
}

static report *report_of(merger *m, connection *c, uint64_t reporter) {
    uint32_t at = 0; /* 0: the one inside the connection; else a position in the pile + 1 */
    for (;;) {
        report *r = at ? &REPORTS(m)[at - 1] : &c->report;
        if (r->reporter == reporter) return r;
        if (!r->next) break;
        at = r->next;
    }
    if (!reserve(&m->reports, 1, sizeof(report))) return NULL;
    report *fresh = &REPORTS(m)[m->reports.used++], *last = at ? &REPORTS(m)[at - 1] : &c->report;
    memset(fresh, 0, sizeof *fresh);
    fresh->reporter = reporter;
    last->next = (uint32_t)m->reports.used;
    return fresh;
}

static connection *connection_of(merger *m, uint64_t k1, uint64_t k2, uint64_t hash, uint64_t reporter) {
    connection *all = CONNECTIONS(m);
    FIND(&m->connection_index, hash, at, all[at].k1 == k1 && all[at].k2 == k2, is_new)
    if (!is_new) return &all[at];
    if (!reserve(&m->connections, 1, sizeof(connection))) return NULL;
    at = m->connections.used++;
    connection *c = &CONNECTIONS(m)[at];
    memset(c, 0, sizeof *c);
    c->k1 = k1;
    c->k2 = k2;
    c->first[0] = c->first[1] = NEVER;
    c->report.reporter = reporter;
    PLACE(&m->connection_index, at);
    return c;
}

typedef struct {
    const int64_t *start, *end, *packets, *bytes, *rev_packets, *rev_bytes;
    const uint64_t *src_hi, *src_lo, *dst_hi, *dst_lo, *reporter;
    const uint16_t *sport, *dport;
    const uint8_t *protocol, *flags, *reported;
    const int8_t *hint;
    const uint32_t *network;
} records;

typedef struct { uint64_t k1, k2, hash; int swapped; } key;

static int key_of(merger *m, const records *r, Py_ssize_t i, key *k) {
    int64_t s = intern(m, r->network[i], r->src_hi[i], r->src_lo[i]), d = s < 0 ? -1 : intern(m, r->network[i], r->dst_hi[i], r->dst_lo[i]);
    uint32_t from = d < 0 ? 0 : holder(m, s, r->start[i]), to = from ? holder(m, d, r->start[i]) : 0;
    if (!to) return 0;
    uint64_t sp = r->sport[i], dp = r->dport[i], hour = (uint64_t)r->start[i] / 3600000;
    k->swapped = r->src_hi[i] != r->dst_hi[i] ? r->src_hi[i] > r->dst_hi[i]
               : r->src_lo[i] != r->dst_lo[i] ? r->src_lo[i] > r->dst_lo[i] : sp > dp;
    k->k1 = k->swapped ? (uint64_t)to << 32 | from : (uint64_t)from << 32 | to;
    k->k2 = (k->swapped ? dp << 48 | sp << 32 : sp << 48 | dp << 32) | (uint64_t)r->protocol[i] << 24 | (hour & 0xFFFFFF);
    k->hash = mix(k->k1, k->k2);
    return 1;
}

static int add_record(merger *m, const records *r, Py_ssize_t i, const key *k) {
    connection *c = connection_of(m, k->k1, k->k2, k->hash, r->reporter[i]);
    report *p = c ? report_of(m, c, r->reporter[i]) : NULL;
    if (!p) return 0;
    int d = k->swapped, is_tcp = r->protocol[i] == 6;
    uint32_t start = (uint32_t)(r->start[i] / 1000), end = (uint32_t)(r->end[i] / 1000);
    int is_syn_ack = is_tcp && (r->flags[i] & 18) == 18, is_syn = is_tcp && (r->flags[i] & 18) == 2;
    if (start < c->first[d]) c->first[d] = start;
    if (end > c->last) c->last = end;
    p->bytes[d] = plus(p->bytes[d], (uint64_t)r->bytes[i]);
    p->packets[d] = plus(p->packets[d], (uint64_t)r->packets[i]);
    if (r->rev_bytes) {
        p->bytes[1 - d] = plus(p->bytes[1 - d], (uint64_t)r->rev_bytes[i]);
        p->packets[1 - d] = plus(p->packets[1 - d], (uint64_t)r->rev_packets[i]);
    }
    p->bits |= 1u << (r->reported[i] & 3);
    if (is_syn && r->reported[i] == BLOCKED) p->bits |= SYN_REJECTED;
    if (r->hint[i]) {
        int client = r->hint[i] > 0 ? d : 1 - d;
        p->opens[client]++;
        c->votes |= client ? ORIGIN_B : ORIGIN_A;
    } else if (is_syn) {
        p->opens[d]++;
        c->votes |= d ? FLAG_B : FLAG_A;
    } else if (is_syn_ack) c->votes |= d ? FLAG_A : FLAG_B;
    return 1;
}

#define BLOCK 32

/* In blocks, so that the cache misses of many records overlap. */
static int feed_all(merger *m, const records *r, Py_ssize_t n) {
    key keys[BLOCK];
    for (Py_ssize_t from = 0; from < n; from += BLOCK) {
        int size = (int)(n - from < BLOCK ? n - from : BLOCK);
        if (!rehash(&m->connection_index, m->connections.used + BLOCK)) return 0;
        for (int i = 0; i < size; i++) {
            if (!key_of(m, r, from + i, &keys[i])) return 0;
            __builtin_prefetch(&m->connection_index.at[(uint32_t)keys[i].hash & m->connection_index.mask]);
        }
        for (int i = 0; i < size; i++) {
            uint64_t got = m->connection_index.at[(uint32_t)keys[i].hash & m->connection_index.mask];
            if (!got) continue;
            const char *c = (const char *)&CONNECTIONS(m)[(got & 0xFFFFFFFFu) - 1];
            __builtin_prefetch(c);
            __builtin_prefetch(c + 64);
        }
        for (int i = 0; i < size; i++)
            if (!add_record(m, r, from + i, &keys[i])) return 0;
    }
    return 1;
}

/* ---- connections to edges ---------------------------------------------------------------------------------------------- */

/* How many connections a socket has (to 127), and whether someone was seen opening one to it. */
static uint8_t *socket_of(merger *m, uint64_t endpoint_, uint64_t protocol, uint64_t port) {
    uint64_t want = endpoint_ << 24 | protocol << 16 | port, at = mix(want, 1) & m->sockets_mask;
    while (m->sockets[at] && m->sockets[at] >> 8 != want) at = (at + 1) & m->sockets_mask;
    if (!m->sockets[at]) {
        m->sockets[at] = want << 8;
        m->sockets_used++;
    }
    return (uint8_t *)&m->sockets[at]; /* little-endian: the low byte */
}

static int grow_sockets(merger *m) {
    uint64_t old = m->sockets ? m->sockets_mask + 1 : 0, room = old ? old * 2 : 1 << 16, *from = m->sockets;
    if (old && m->sockets_used * 2 < old) return 1;
    uint64_t *at = calloc(room, sizeof *at);
    if (!at) return 0;
    for (uint64_t i = 0; i < old; i++)
        if (from[i]) {
            uint64_t q = mix(from[i] >> 8, 1) & (room - 1);
            while (at[q]) q = (q + 1) & (room - 1);
            at[q] = from[i];
        }
    free(from);
    m->sockets = at;
    m->sockets_mask = room - 1;
    return 1;
}

typedef struct { uint64_t a, b, pa, pb, protocol, hour; } ends;

static ends ends_of(const connection *c) {
    return (ends){c->k1 >> 32, c->k1 & 0xFFFFFFFFu, c->k2 >> 48, c->k2 >> 32 & 0xFFFF, c->k2 >> 24 & 0xFF, c->k2 & 0xFFFFFF};
}

static int strong_vote(const connection *c) {
    uint32_t origin = c->votes & (ORIGIN_A | ORIGIN_B), flags = c->votes & (FLAG_A | FLAG_B);
    if (origin == ORIGIN_A || origin == ORIGIN_B) return origin == ORIGIN_A ? 1 : -1;
    return flags == FLAG_A ? 1 : flags == FLAG_B ? -1 : 0;
}

static void touch(uint8_t *socket, int is_listener) {
    if ((*socket & MOST_FAN) < MOST_FAN) (*socket)++;
    if (is_listener) *socket |= LISTENER;
}

static int count_sockets(merger *m) {
    for (uint64_t i = 0; i < m->connections.used; i++) {
        const connection *c = &CONNECTIONS(m)[i];
        ends e = ends_of(c);
        int vote = strong_vote(c);
        if (!grow_sockets(m)) return 0;
        touch(socket_of(m, e.a, e.protocol, e.pa), vote < 0);
        touch(socket_of(m, e.b, e.protocol, e.pb), vote > 0);
    }
    return 1;
}

/* 1: A opened it; strongest evidence first. */
static int is_client_a(const connection *c, const ends *e, uint8_t fan_a, uint8_t fan_b, uint8_t *confidence) {
    int vote = strong_vote(c), listens_a = fan_a & LISTENER, listens_b = fan_b & LISTENER;
    int most = (fan_a & MOST_FAN) > (fan_b & MOST_FAN) ? (fan_a & MOST_FAN) : (fan_b & MOST_FAN);
    if (vote) {
        uint32_t origin = c->votes & (ORIGIN_A | ORIGIN_B);
        *confidence = origin == ORIGIN_A || origin == ORIGIN_B ? BY_ORIGINATOR : BY_FLAGS;
        return vote > 0;
    }
    *confidence = BY_FAN_IN;
    if (!listens_a != !listens_b) return listens_b != 0;
    if (most >= FAN_IN && (fan_a & MOST_FAN) != (fan_b & MOST_FAN)) return (fan_b & MOST_FAN) > (fan_a & MOST_FAN);
    *confidence = BY_PORT;
    if (e->pa != e->pb) return e->pb < e->pa;
    return c->first[0] <= c->first[1];
}

/* A reporter that let some of it through rejects stragglers after the close: only a rejected SYN counts against it. */
static int outcome_of(uint32_t bits) {
    int passed = bits & (1u << ALLOWED | 1u << WOULD_BLOCK);
    if (bits & 1u << BLOCKED && (!passed || bits & SYN_REJECTED)) return BLOCKED;
    return bits & 1u << WOULD_BLOCK ? WOULD_BLOCK : bits & 1u << ALLOWED ? ALLOWED : UNKNOWN;
}

static edge *edge_of(merger *m, uint64_t k1, uint64_t k2) {
    edge *all = EDGES(m);
    FIND(&m->edge_index, mix(k1, k2), at, all[at].k1 == k1 && all[at].k2 == k2, is_new)
    if (!is_new) return &all[at];
    if (!reserve(&m->edges, 1, sizeof(edge))) return NULL;
    at = m->edges.used++;
    edge *e = &EDGES(m)[at];
    memset(e, 0, sizeof *e);
    e->k1 = k1;
    e->k2 = k2;
    e->first = NEVER;
    PLACE(&m->edge_index, at);
    return e;
}

static int emit_one(merger *m, const connection *c) {
    static const uint8_t rank[] = {0, 1, 3, 2};
    ends e = ends_of(c);
    uint8_t fan_a = *socket_of(m, e.a, e.protocol, e.pa), fan_b = *socket_of(m, e.b, e.protocol, e.pb), confidence;
    int client = is_client_a(c, &e, fan_a, fan_b, &confidence) ? 0 : 1, reported = UNKNOWN;
    uint64_t bytes[2] = {0, 0}, packets[2] = {0, 0}, opens = 1;
    for (const report *r = &c->report;; r = &REPORTS(m)[r->next - 1]) {
        int outcome_ = outcome_of(r->bits);
        for (int d = 0; d < 2; d++) {
            if (r->bytes[d] > bytes[d]) bytes[d] = r->bytes[d];
            if (r->packets[d] > packets[d]) packets[d] = r->packets[d];
        }
        if (r->opens[client] > opens) opens = r->opens[client];
        if (rank[outcome_] > rank[reported]) reported = outcome_;
        if (!r->next) break;
    }
    uint64_t port = client ? e.pa : e.pb, k1 = client ? c->k1 << 32 | c->k1 >> 32 : c->k1;
    edge *to = edge_of(m, k1, e.hour << 32 | (uint64_t)reported << 24 | e.protocol << 16 | port);
    if (!to) return 0;
    uint32_t first = c->first[0] < c->first[1] ? c->first[0] : c->first[1];
    uint8_t fan = (client ? fan_a : fan_b) & MOST_FAN;
    to->connections += (int64_t)opens;
    to->bytes = (int64_t)plus((uint64_t)to->bytes, plus(bytes[0], bytes[1]));
    to->packets = (int64_t)plus((uint64_t)to->packets, plus(packets[0], packets[1]));
    if (first < to->first) to->first = first;
    if (c->last > to->last) to->last = c->last;
    if (confidence > to->confidence) to->confidence = confidence;
    if (fan > to->fan) to->fan = fan;
    return 1;
}

static int emit_all(merger *m) {
    if (!grow_sockets(m)) return 0;
    for (uint64_t i = 0; i < m->connections.used; i++)
        if (!rehash(&m->edge_index, m->edges.used + 1) || !emit_one(m, &CONNECTIONS(m)[i])) return 0;
    return 1;
}

/* ---- the Python type --------------------------------------------------------------------------------------------------- */

static void forget_connections(merger *m) {
    m->connections.used = m->reports.used = 0;
    if (m->connection_index.at) memset(m->connection_index.at, 0, (m->connection_index.mask + 1) * sizeof(uint64_t));
}

static void merger_dealloc(merger *m) {
    free(m->address_index.at); free(m->connection_index.at); free(m->edge_index.at);
    free(m->addresses.at); free(m->endpoints.at); free(m->connections.at); free(m->reports.at); free(m->edges.at);
    free(m->sockets); free(m->lease_start); free(m->lease_end); free(m->lease_owner); free(m->lease_endpoint);
    PyTypeObject *type = Py_TYPE(m);
    type->tp_free((PyObject *)m);
    Py_DECREF(type);
}

static void *copy_of(const void *from, size_t size) {
    void *to = malloc(size + 8);
    if (to) memcpy(to, from, size);
    return to;
}

static int load_leases(merger *m, const uint64_t *hi, const uint64_t *lo, const uint32_t *network) {
    for (Py_ssize_t i = 0; i < m->leases; i++) {
        int64_t at = intern(m, network[i], hi[i], lo[i]);
        if (at < 0) return 0;
        address *a = &ADDRESSES(m)[at];
        if (!a->count++) a->first = (uint32_t)i;
        if (a->first + a->count != (uint32_t)i + 1) return -1;
    }
    return 1;
}

static PyObject *merger_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs)) {
    static const uint8_t width[] = {8, 8, 4, 8, 8, 4};
    Py_buffer v[6];
    PyObject *columns;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "O!", &PyTuple_Type, &columns)) return NULL;
    if (PyTuple_GET_SIZE(columns) != 6) return PyErr_Format(PyExc_ValueError, "leases have 6 columns");
    if (get_columns(columns, v, width, 6, PyBUF_SIMPLE, &n) < 0) return NULL;
    merger *m = (merger *)type->tp_alloc(type, 0);
    if (m) {
        int is_ready = n < 0x7FFFFFFF && rehash(&m->address_index, 1) && rehash(&m->connection_index, 1) && rehash(&m->edge_index, 1) &&
                       new_endpoint(m, &(address){0}, -1) == 0 && m->endpoints.used == 1;
        m->leases = n;
        m->lease_start = copy_of(v[3].buf, (size_t)n * 8);
        m->lease_end = copy_of(v[4].buf, (size_t)n * 8);
        m->lease_owner = copy_of(v[5].buf, (size_t)n * 4);
        m->lease_endpoint = calloc((size_t)n + 1, 4);
        is_ready = is_ready && m->lease_start && m->lease_end && m->lease_owner && m->lease_endpoint;
        int is_sorted = is_ready ? load_leases(m, v[0].buf, v[1].buf, v[2].buf) : 0;
        if (is_sorted != 1) {
            if (is_sorted < 0) PyErr_SetString(PyExc_ValueError, "leases are not grouped by address");
            else PyErr_NoMemory();
            Py_CLEAR(m);
        }
    }
    for (int i = 0; i < 6; i++) PyBuffer_Release(&v[i]);
    return (PyObject *)m;
}

static int enter(merger *m) {
    if (m->is_busy) PyErr_SetString(PyExc_RuntimeError, "a merger serves one thread at a time");
    return m->is_busy ? 0 : (m->is_busy = 1);
}

static int in_range(const records *r, Py_ssize_t n) {
    for (Py_ssize_t i = 0; i < n; i++)
        if ((uint64_t)r->start[i] > MAX_SECONDS * 1000 + 999 || (uint64_t)r->end[i] > MAX_SECONDS * 1000 + 999 || r->packets[i] < 0 ||
            r->bytes[i] < 0 || r->reported[i] > 3 || (r->rev_bytes && (r->rev_bytes[i] < 0 || r->rev_packets[i] < 0)))
            return 0;
    return 1;
}

PyDoc_STRVAR(feed_doc, "feed(columns) -> connections held\n\nMerge records: start, end, packets, bytes, src_hi, src_lo, dst_hi, dst_lo, "
                       "reporter, src_port, dst_port, protocol, flags, reported, hint, network and perhaps rev_packets, rev_bytes.");

static PyObject *merger_feed(merger *m, PyObject *columns) {
    static const uint8_t width[] = {8, 8, 8, 8, 8, 8, 8, 8, 8, 2, 2, 1, 1, 1, 1, 4, 8, 8};
    Py_buffer v[18];
    Py_ssize_t n;
    int count = PyTuple_Check(columns) ? (int)PyTuple_GET_SIZE(columns) : 0, is_fed = 0, is_valid;
    if (count != 16 && count != 18) return PyErr_Format(PyExc_ValueError, "records have 16 or 18 columns");
    if (get_columns(columns, v, width, count, PyBUF_SIMPLE, &n) < 0) return NULL;
    records r = {v[0].buf, v[1].buf, v[2].buf, v[3].buf, count == 18 ? v[16].buf : NULL, count == 18 ? v[17].buf : NULL,
                 v[4].buf, v[5].buf, v[6].buf, v[7].buf, v[8].buf, v[9].buf, v[10].buf, v[11].buf, v[12].buf, v[13].buf, v[14].buf, v[15].buf};
    if (enter(m)) {
        Py_BEGIN_ALLOW_THREADS
        is_valid = in_range(&r, n);
        is_fed = is_valid && feed_all(m, &r, n);
        Py_END_ALLOW_THREADS
        m->is_busy = 0;
        if (!is_valid) PyErr_SetString(PyExc_ValueError, "a record is out of range");
        else if (!is_fed) PyErr_NoMemory();
    }
    for (int i = 0; i < count; i++) PyBuffer_Release(&v[i]);
    return is_fed ? PyLong_FromUnsignedLongLong(m->connections.used) : NULL;
}

PyDoc_STRVAR(drain_doc, "drain(parts) -> list of bytes\n\nAll connections, one record a report, split by key; the merger forgets them.");

static PyObject *merger_drain(merger *m, PyObject *arg) {
    long parts = PyLong_AsLong(arg);
    uint64_t sizes[64] = {0};
    char *to[64];
    if (!enter(m)) return NULL;
    m->is_busy = 0; /* the GIL is held from here on */
    if (parts < 1 || parts > 64) return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "1 to 64 parts");
    for (uint64_t i = 0; i < m->connections.used; i++) {
        const connection *c = &CONNECTIONS(m)[i];
        for (const report *r = &c->report;; r = &REPORTS(m)[r->next - 1]) {
            sizes[mix(c->k1, c->k2) % (uint64_t)parts] += sizeof *c;
            if (!r->next) break;
        }
    }
    PyObject *list = PyList_New(parts);
    for (long p = 0; list && p < parts; p++) {
        PyObject *item = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)sizes[p]);
        if (!item) { Py_CLEAR(list); break; }
        to[p] = PyBytes_AS_STRING(item);
        PyList_SET_ITEM(list, p, item);
    }
    for (uint64_t i = 0; list && i < m->connections.used; i++) {
        const connection *c = &CONNECTIONS(m)[i];
        uint64_t p = mix(c->k1, c->k2) % (uint64_t)parts;
        for (const report *r = &c->report;; r = &REPORTS(m)[r->next - 1]) {
            connection one = *c;
            one.report = *r;
            one.report.next = 0;
            memcpy(to[p], &one, sizeof one);
            to[p] += sizeof one;
            if (!r->next) break;
        }
    }
    if (list) forget_connections(m);
    return list;
}

static int absorb_one(merger *m, const connection *from) {
    uint64_t a = from->k1 >> 32, b = from->k1 & 0xFFFFFFFFu;
    if (!rehash(&m->connection_index, m->connections.used + 1)) return 0;
    if (!a || !b || a >= m->endpoints.used || b >= m->endpoints.used) return -1;
    connection *c = connection_of(m, from->k1, from->k2, mix(from->k1, from->k2), from->report.reporter);
    report *r = c ? report_of(m, c, from->report.reporter) : NULL;
    if (!r) return 0;
    for (int d = 0; d < 2; d++) {
        if (from->first[d] < c->first[d]) c->first[d] = from->first[d];
        r->bytes[d] = plus(r->bytes[d], from->report.bytes[d]);
        r->packets[d] = plus(r->packets[d], from->report.packets[d]);
        r->opens[d] += from->report.opens[d];
    }
    if (from->last > c->last) c->last = from->last;
    c->votes |= from->votes;
    r->bits |= from->report.bits;
    return 1;
}

PyDoc_STRVAR(absorb_doc, "absorb(data) -> None\n\nMerge connections that `drain` of this merger gave out.");

static PyObject *merger_absorb(merger *m, PyObject *arg) {
    Py_buffer v;
    int found = 1;
    if (!enter(m)) return NULL;
    m->is_busy = 0; /* the GIL is held from here on */
    if (PyObject_GetBuffer(arg, &v, PyBUF_SIMPLE) < 0) return NULL;
    if (v.len % (Py_ssize_t)sizeof(connection)) found = -1;
    for (Py_ssize_t at = 0; found == 1 && at < v.len; at += (Py_ssize_t)sizeof(connection)) {
        connection one;
        memcpy(&one, (char *)v.buf + at, sizeof one);
        found = absorb_one(m, &one);
    }
    PyBuffer_Release(&v);
    if (found == 1) Py_RETURN_NONE;
    return found ? PyErr_Format(PyExc_ValueError, "not connections of this merger") : PyErr_NoMemory();
}

static PyObject *step(merger *m, int (*work)(merger *)) {
    int is_done;
    if (!enter(m)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    is_done = work(m);
    Py_END_ALLOW_THREADS
    m->is_busy = 0;
    if (is_done) Py_RETURN_NONE;
    return PyErr_NoMemory();
}

static PyObject *merger_count(merger *m, PyObject *Py_UNUSED(none)) { return step(m, count_sockets); }
static PyObject *merger_emit(merger *m, PyObject *Py_UNUSED(none)) { return step(m, emit_all); }

static PyObject *merger_forget(merger *m, PyObject *Py_UNUSED(none)) {
    forget_connections(m);
    Py_RETURN_NONE;
}

static PyObject *merger_edges(merger *m, PyObject *Py_UNUSED(none)) {
    return Py_BuildValue("(y#y#KK)", m->edges.at ? (char *)m->edges.at : "", (Py_ssize_t)(m->edges.used * sizeof(edge)), (char *)ENDPOINTS(m),
                         (Py_ssize_t)(m->endpoints.used * sizeof(endpoint)), (unsigned long long)m->early, (unsigned long long)m->late);
}

static PyMethodDef merger_methods[] = {
    {"feed", (PyCFunction)merger_feed, METH_O, feed_doc},
    {"drain", (PyCFunction)merger_drain, METH_O, drain_doc},
    {"absorb", (PyCFunction)merger_absorb, METH_O, absorb_doc},
    {"count", (PyCFunction)merger_count, METH_NOARGS, "Count the connections of every socket: who has the most is a server."},
    {"emit", (PyCFunction)merger_emit, METH_NOARGS, "Orient the connections held and add them to the edges; after `count`."},
    {"forget", (PyCFunction)merger_forget, METH_NOARGS, "Drop the connections held."},
    {"edges", (PyCFunction)merger_edges, METH_NOARGS, "(edges, endpoints, early ends, late ends): packed structs and counts."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot merger_slots[] = {
    {Py_tp_new, merger_new}, {Py_tp_dealloc, merger_dealloc}, {Py_tp_methods, merger_methods},
    {Py_tp_doc, "Merger(leases): connections between labelled endpoints, merged from records in any order."}, {0, NULL}};
static PyType_Spec merger_spec = {"ringfence.flows._flowcore.Merger", sizeof(merger), 0, Py_TPFLAGS_DEFAULT, merger_slots};

static PyMethodDef module_methods[] = {{"parse", parse, METH_VARARGS, parse_doc}, {NULL, NULL, 0, NULL}};

static int module_exec(PyObject *module) {
    PyObject *type = PyType_FromSpec(&merger_spec);
    if (!type || PyModule_AddObjectRef(module, "Merger", type) < 0) {
        Py_XDECREF(type);
        return -1;
    }
    Py_DECREF(type);
    return PyModule_AddIntConstant(module, "ABI", ABI);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};
static struct PyModuleDef module_def = {PyModuleDef_HEAD_INIT, "_flowcore", "The hot loops of flow import.", 0,
                                        module_methods, module_slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__flowcore(void) { return PyModuleDef_Init(&module_def); }
