/* SPDX-License-Identifier: Apache-2.0
 *
 * The guest program of the lab: does a mediated device keep its state?
 *
 * Each UART of an mtty device has a scratch register that only we write.
 * A hundred times a second we first read every scratch register and compare
 * it with what we wrote the time before, and only then write the next value.
 * Between the two a live migration may have moved us: the expected value
 * came along with the processor, the register's value only if the device's
 * own state came along too. A value is never 0, so a device that starts
 * afresh shows.
 *
 * Reported on the first serial port:
 *   ready ports <n> dirty <MiB>
 *   ok <steps>                                once a second
 *   LOST port <p> expected <x> got <y> step <steps>
 *
 * Command line: dirty=<MiB> of memory to write to, all of it once a second.
 */
#include <stdint.h>

#define COM1 0x3f8
#define LINE_STATUS 5
#define LINE_STATUS_READY 0x20
#define SCRATCH 7

#define PCI_ADDRESS 0xcf8
#define PCI_VALUE 0xcfc
#define PCI_BUSES 32
#define PCI_COMMAND 0x04
#define PCI_COMMAND_IO 0x1
#define PCI_BAR0 0x10
#define PCI_BARS 2
#define MTTY_ID 0x32534348u

#define TIMER_HZ 1193182u
#define STEPS_A_SECOND 100u

#define MAX_PORTS 16
#define PAGE 4096u
#define DIRTY_START (8u << 20)

/*
 * How far we are: while we wait, in a register of the processor and nowhere
 * else. QEMU saves it when nothing runs any more. In memory it would not be
 * safe: once, under emulation, its page arrived as it had been five steps
 * before.
 */
register uint32_t step __asm__("ebx");

static uint16_t scratches[MAX_PORTS];
static unsigned port_count;

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint32_t in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void put_char(char character)
{
    while (!(in8(COM1 + LINE_STATUS) & LINE_STATUS_READY))
        ;
    out8(COM1, (uint8_t)character);
}

static void put_text(const char *text)
{
    while (*text)
        put_char(*text++);
}

static void put_number(uint32_t number)
{
    if (number >= 10)
        put_number(number / 10);
    put_char((char)('0' + number % 10));
}

static void put_field(const char *name, uint32_t number)
{
    put_text(name);
    put_number(number);
}

/* PCI configuration space */

static uint32_t pci_read(uint32_t device, uint32_t offset)
{
    out32(PCI_ADDRESS, 0x80000000u | device << 11 | offset);
    return in32(PCI_VALUE);
}

static void pci_write(uint32_t device, uint32_t offset, uint32_t value)
{
    out32(PCI_ADDRESS, 0x80000000u | device << 11 | offset);
    out32(PCI_VALUE, value);
}

static void add_port(uint32_t bar)
{
    if (!(bar & 1) || !(bar & ~3u) || port_count == MAX_PORTS)
        return;
    scratches[port_count++] = (uint16_t)((bar & ~3u) + SCRATCH);
}

/* One I/O BAR per UART: mtty-1 has one, mtty-2 has two. */
static void add_mtty(uint32_t device)
{
    uint32_t command = pci_read(device, PCI_COMMAND) & 0xffff;

    pci_write(device, PCI_COMMAND, command | PCI_COMMAND_IO);
    for (uint32_t i = 0; i < PCI_BARS; i++)
        add_port(pci_read(device, PCI_BAR0 + 4 * i));
}

static void find_ports(void)
{
    for (uint32_t device = 0; device < PCI_BUSES * 32; device++)
        if (pci_read(device, 0) == MTTY_ID)
            add_mtty(device);
}

/* The test itself */

static uint8_t value_of(uint32_t when, unsigned port)
{
    return (uint8_t)(1 + (when + 85 * port) % 255);
}

static void write_next(void)
{
    for (unsigned i = 0; i < port_count; i++)
        out8(scratches[i], value_of(step, i));
}

static void report_lost(unsigned port, uint8_t expected, uint8_t got)
{
    put_field("LOST port ", port);
    put_field(" expected ", expected);
    put_field(" got ", got);
    put_field(" step ", step);
    put_char('\n');
}

static void verify_last(void)
{
    for (unsigned i = 0; i < port_count; i++) {
        uint8_t expected = value_of(step - 1, i);
        uint8_t got = in8(scratches[i]);

        if (got != expected)
            report_lost(i, expected, got);
    }
}

/* Memory that keeps changing */

static void dirty_pages(uint32_t pages)
{
    static uint32_t next;
    uint32_t share = (pages + STEPS_A_SECOND - 1) / STEPS_A_SECOND;

    if (!pages)
        return;
    for (uint32_t i = 0; i < share; i++) {
        *(volatile uint32_t *)(DIRTY_START + next * PAGE) = step;
        next = (next + 1) % pages;
    }
}

static uint32_t dirty_mib(const char *command_line, uint32_t upper_kib)
{
    uint32_t room = upper_kib / 1024 > 10 ? upper_kib / 1024 - 10 : 0;
    uint32_t wanted = 0;

    for (const char *c = command_line; *c; c++)
        if (c[0] == 'd' && c[1] == 'i' && c[2] == 'r' && c[3] == 't'
            && c[4] == 'y' && c[5] == '=')
            for (c += 6; *c >= '0' && *c <= '9'; c++)
                wanted = wanted * 10 + (uint32_t)(*c - '0');
    return wanted < room ? wanted : room;
}

/* Time */

static void start_timer(void)
{
    uint32_t divisor = TIMER_HZ / STEPS_A_SECOND;

    out8(0x20, 0x11);           /* interrupt controllers: start, */
    out8(0xa0, 0x11);
    out8(0x21, 0x20);           /* vectors from 0x20 and 0x28, */
    out8(0xa1, 0x28);
    out8(0x21, 0x04);
    out8(0xa1, 0x02);
    out8(0x21, 0x01);
    out8(0xa1, 0x01);
    out8(0x21, 0xfe);           /* only the timer let through */
    out8(0xa1, 0xff);
    out8(0x43, 0x34);           /* timer: channel 0, periodic */
    out8(0x40, (uint8_t)divisor);
    out8(0x40, (uint8_t)(divisor >> 8));
}

static void wait_for_timer(void)
{
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}

void guest_main(const char *command_line, uint32_t upper_kib)
{
    uint32_t mib = dirty_mib(command_line, upper_kib);

    find_ports();
    put_field("ready ports ", port_count);
    put_field(" dirty ", mib);
    put_char('\n');
    start_timer();
    step = 0;
    write_next();
    for (step = 1;; step++) {
        wait_for_timer();
        verify_last();
        write_next();
        dirty_pages(mib << 8);
        if (step % STEPS_A_SECOND == 0) {
            put_field("ok ", step);
            put_char('\n');
        }
    }
}
