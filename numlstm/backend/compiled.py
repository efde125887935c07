"""What this process has compiled or found on disk, and where that is kept."""

from numlstm.kernels.compiling import ENV_FOLDER, ENV_SWITCH, Specialisation, base_folder, cache_folder, specialisations

__all__ = ["ENV_FOLDER", "ENV_SWITCH", "Specialisation", "base_folder", "cache_folder", "specialisations"]
