/* SPDX-License-Identifier: GPL-2.0-only */
/* Gives an mtty driver its parent: the PCI device of the parameter "card". */

#include <linux/moduleparam.h>
#include <linux/pci.h>

static char *card = "";
module_param(card, charp, 0444);

static struct device *parent_device(struct device *otherwise)
{
    unsigned int domain, bus, slot, function;
    struct pci_dev *found;

    if (sscanf(card, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
        return otherwise;
    found = pci_get_domain_bus_and_slot(domain, bus,
                                        PCI_DEVFN(slot, function));
    return found ? &found->dev : otherwise;
}
