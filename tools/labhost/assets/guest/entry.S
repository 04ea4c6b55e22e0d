/* SPDX-License-Identifier: Apache-2.0
 *
 * Entry of the guest program: a multiboot kernel without an operating
 * system. It sets up flat segments, a stack and one interrupt (the timer),
 * then calls guest_main(command line, KiB of memory above 1 MiB).
 */
        .set    FLAGS, 0x00000002       /* tell us the memory size */
        .set    MAGIC, 0x1badb002
        .set    TIMER_VECTOR, 0x20

        .section .multiboot, "a"
        .balign 4
        .long   MAGIC
        .long   FLAGS
        .long   -(MAGIC + FLAGS)

        .text
        .globl  _start
_start:
        cli
        cld
        movl    $stack_top, %esp
        movl    8(%ebx), %esi           /* mem_upper */
        movl    16(%ebx), %edi          /* cmdline */
        lgdt    gdt_pointer
        ljmp    $0x08, $1f
1:      movw    $0x10, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss

        /* Point the timer's gate at timer_interrupt. */
        movl    $timer_interrupt, %eax
        movw    %ax, timer_gate
        shrl    $16, %eax
        movw    %ax, timer_gate + 6
        lidt    idt_pointer

        pushl   %esi
        pushl   %edi
        call    guest_main
halt:   cli
        hlt
        jmp     halt

timer_interrupt:
        pushl   %eax
        movb    $0x20, %al              /* end of interrupt */
        outb    %al, $0x20
        popl    %eax
        iret

        .data
        .balign 8
gdt:    .quad   0
        .quad   0x00cf9a000000ffff      /* 0x08: code, 4 GiB */
        .quad   0x00cf92000000ffff      /* 0x10: data, 4 GiB */
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .long   gdt

        .balign 8
idt:    .fill   TIMER_VECTOR, 8, 0
timer_gate:
        .word   0, 0x08, 0x8e00, 0
idt_pointer:
        .word   idt_pointer - idt - 1
        .long   idt

        .bss
        .balign 16
        .skip   16384
stack_top:

        .section .note.GNU-stack, "", @progbits
