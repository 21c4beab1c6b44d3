/* From plain to channel-blocked layout and back: squares of TW_VW x TW_VW floats transposed in registers. */
#ifndef TILEWISE_TURN_H
#define TILEWISE_TURN_H

#include "tile.h"

