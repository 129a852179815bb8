"""Bugs of users, `USERS`, and right ops and layers beside them, `CONTROLS`: see `users_planting.py`."""

import bugs_users_losses  # noqa: F401
import bugs_users_norms  # noqa: F401
import bugs_users_products  # noqa: F401
import bugs_users_rest  # noqa: F401
import bugs_users_sequences  # noqa: F401
import bugs_users_state  # noqa: F401
from users_planting import RIGHT, WRONG, UserBug

USERS: list[UserBug] = WRONG
CONTROLS: list[UserBug] = RIGHT
